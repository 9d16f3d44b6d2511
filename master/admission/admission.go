// Package admission decides on writes after they are authorised and defaulted and before they are validated: plugins
// that complete an object come first, but for the one that refuses what comes too fast, then those that only refuse. Each plugin is one file. The registry's hook calls the
// Chain; lookups go through Reader.
//
// Its invariant: a plugin that is run again on its own result changes nothing, because a write that another one overtook
// is admitted again.
package admission

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"shoal/internal/api"
	"shoal/internal/client"
)

// Operation is what a write does to an object.
type Operation string

// The operations. Updates include patches.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
)

// User is who asked for a write.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Request is one write under decision.
type Request struct {
	Operation   Operation
	Kind        *api.Kind
	Subresource string
	// Key names the object; the name is empty when it will be generated.
	Key client.Key
	// Object is what will be stored; plugins may change it. Nil for a deletion.
	Object api.Object
	// OldObject is what is stored, read-only. Nil for a creation.
	OldObject api.Object
	// User is nil when a component of this process writes.
	User   *User
	DryRun bool
	// Warn shows a text to who asked for the write, together with the answer. Nil when nobody would see it.
	Warn func(text string)
	// Note adds to what the audit log says of the request. Nil when there is none.
	Note func(key, text string)
}

func (r *Request) warn(text string) {
	if r.Warn != nil {
		r.Warn(text)
	}
}

func (r *Request) note(key, text string) {
	if r.Note != nil {
		r.Note(key, text)
	}
}

// is reports whether the request is about objects of a kind themselves, not a subresource.
func (r *Request) is(k *api.Kind, o Operation) bool {
	return r.Kind == k && r.Subresource == "" && r.Operation == o
}

// forbidden is a refusal in the words that clients know.
func (r *Request) forbidden(err error) *apierrors.StatusError {
	name := r.Key.Name
	if name == "" && r.Object != nil {
		name = r.Object.GetGenerateName()
	}
	return apierrors.NewForbidden(r.Kind.GVR().GroupResource(), name, err)
}

// Plugin decides on requests. An error, which is a StatusError, refuses; nil admits. Safe for concurrent use.
type Plugin interface {
	Admit(ctx context.Context, r *Request) error
}

// Reader is what plugins need of client.Interface.
type Reader interface {
	Get(ctx context.Context, k *api.Kind, key client.Key, o client.GetOptions) (api.Object, error)
	List(ctx context.Context, k *api.Kind, o client.ListOptions) (*client.List, error)
}

// DefaultEvictionGrace is how long pods stay on a machine that does not answer, unless they say otherwise.
const DefaultEvictionGrace = 3 * time.Second

// Config is complete when passed to New.
type Config struct {
	Reader Reader
	// EvictionGrace becomes the tolerationSeconds of pods that do not give their own; zero means DefaultEvictionGrace.
	EvictionGrace time.Duration
	// NodeRestriction keeps nodes to their own objects; nil restricts nobody.
	NodeRestriction Plugin
	// Kind finds the kind of a policy's parameters; nil finds none.
	Kind func(schema.GroupVersionKind) (*api.Kind, bool)
	// Authorizer answers expressions that ask who may do what; nil: nobody may do anything.
	Authorizer authorizer.UnconditionalAuthorizer
	// Now is time.Now when nil.
	Now func() time.Time
}

// Chain asks plugins in order; the first refusal ends it.
type Chain []Plugin

// New returns the plugins of this program.
func New(c Config) Chain {
	if c.EvictionGrace <= 0 {
		c.EvictionGrace = DefaultEvictionGrace
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	calls := newCaller(c.Reader, c.Authorizer)
	chain := Chain{
		// This one refuses before anything is done.
		newEventRate(c.Now),
		// These complete objects.
		serviceAccount{c.Reader},
		runtimeClass{c.Reader},
		priority{c.Reader},
		limitDefaults{c.Reader},
		tolerations{seconds(c.EvictionGrace)},
		nodeTaint{},
		storageInUse{},
		defaultClass{c.Reader},
		mutatingWebhooks{c.Reader, calls},
		netRaw{c.Reader}, // of the containers that webhooks add, too
		// These only refuse.
		namespaceLifecycle{c.Reader},
		limitBounds{c.Reader},
		newPodSecurity(c.Reader),
		userTokens{},
	}
	if c.NodeRestriction != nil {
		chain = append(chain, c.NodeRestriction)
	}
	return append(chain, newPolicies(c), validatingWebhooks{c.Reader, calls})
}

// Admit implements Plugin.
func (c Chain) Admit(ctx context.Context, r *Request) error {
	for _, p := range c {
		if err := p.Admit(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// seconds rounds up, so that a short grace is not none.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// find reads an object from this peer's replica and, only when it is not there, asks for the most recent state.
func find(ctx context.Context, from Reader, k *api.Kind, key client.Key) (api.Object, error) {
	o, err := from.Get(ctx, k, key, client.GetOptions{ResourceVersion: "0"})
	if !apierrors.IsNotFound(err) {
		return o, err
	}
	return from.Get(ctx, k, key, client.GetOptions{})
}

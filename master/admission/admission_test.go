package admission

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

// shelf is a Reader over a map.
type shelf map[client.Key]api.Object

func (s shelf) Get(_ context.Context, k *api.Kind, key client.Key, _ client.GetOptions) (api.Object, error) {
	if o, ok := s[client.Key{Namespace: k.Resource + "/" + key.Namespace, Name: key.Name}]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(k.GVR().GroupResource(), key.Name)
}

func (s shelf) List(_ context.Context, k *api.Kind, _ client.ListOptions) (*client.List, error) {
	var l client.List
	for key, o := range s {
		if strings.HasPrefix(key.Namespace, k.Resource+"/") {
			l.Items = append(l.Items, o)
		}
	}
	return &l, nil
}

func (s shelf) put(k *api.Kind, o api.Object) shelf {
	s[client.Key{Namespace: k.Resource + "/" + o.GetNamespace(), Name: o.GetName()}] = o
	return s
}

func namespace(name string, phase corev1.NamespacePhase) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: phase}}
}

func newShelf() shelf {
	s := shelf{}
	s.put(api.Namespaces, namespace("default", corev1.NamespaceActive))
	s.put(api.Namespaces, namespace("going", corev1.NamespaceTerminating))
	return s.put(api.ServiceAccounts, &corev1.ServiceAccount{
		ObjectMeta:       metav1.ObjectMeta{Namespace: "default", Name: "puller"},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "key"}},
	})
}

func podRequest(ns string, spec corev1.PodSpec) *Request {
	return &Request{
		Operation: Create, Kind: api.Pods, Key: client.Key{Namespace: ns, Name: "p"},
		Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "p"}, Spec: spec},
	}
}

func TestRefusals(t *testing.T) {
	one, runtime, never := int32(5), "kata", corev1.PreemptNever
	for _, c := range []struct {
		name    string
		request *Request
		code    int32
		message string
	}{
		{"a pod in a namespace", podRequest("default", corev1.PodSpec{}), 0, ""},
		{"a missing namespace", podRequest("nowhere", corev1.PodSpec{}), http.StatusNotFound, `namespaces "nowhere" not found`},
		{
			"a namespace that is going", podRequest("going", corev1.PodSpec{}), http.StatusForbidden,
			`pods "p" is forbidden: unable to create new content in namespace going because it is being terminated`,
		},
		{
			"deleting kube-system", &Request{Operation: Delete, Kind: api.Namespaces, Key: client.Key{Name: "kube-system"}}, http.StatusForbidden,
			`namespaces "kube-system" is forbidden: this namespace may not be deleted`,
		},
		{"deleting another namespace", &Request{Operation: Delete, Kind: api.Namespaces, Key: client.Key{Name: "mine"}}, 0, ""},
		{"deleting in a namespace that is going", &Request{Operation: Delete, Kind: api.Pods, Key: client.Key{Namespace: "going", Name: "p"}}, 0, ""},
		{
			"an unknown service account", podRequest("default", corev1.PodSpec{ServiceAccountName: "nope"}), http.StatusForbidden,
			`pods "p" is forbidden: error looking up service account default/nope: serviceaccount "nope" not found`,
		},
		{
			"an unknown priority class", podRequest("default", corev1.PodSpec{PriorityClassName: "nope"}), http.StatusForbidden,
			`pods "p" is forbidden: no PriorityClass with name nope was found`,
		},
		{
			"a priority of one's own", podRequest("default", corev1.PodSpec{Priority: &one}), http.StatusForbidden,
			`pods "p" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name`,
		},
		{
			"a preemption policy of one's own", podRequest("default", corev1.PodSpec{PreemptionPolicy: &never}), http.StatusForbidden,
			`pods "p" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name`,
		},
		{
			"a runtime class", podRequest("default", corev1.PodSpec{RuntimeClassName: &runtime}), http.StatusForbidden,
			`pods "p" is forbidden: pod rejected: RuntimeClass "kata" not found`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := New(Config{Reader: newShelf()}).Admit(t.Context(), c.request)
			if c.code == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			status, ok := err.(apierrors.APIStatus)
			if !ok {
				t.Fatalf("got %v, want a status", err)
			}
			if status.Status().Code != c.code || err.Error() != c.message {
				t.Errorf("got %d %q\nwant %d %q", status.Status().Code, err, c.code, c.message)
			}
		})
	}
}

func TestTerminatingNamespaceIsACause(t *testing.T) {
	err := New(Config{Reader: newShelf()}).Admit(t.Context(), podRequest("going", corev1.PodSpec{}))
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("controllers cannot tell from %v that they should stop trying", err)
	}
}

func TestNewPodIsCompleted(t *testing.T) {
	no := false
	r := podRequest("default", corev1.PodSpec{AutomountServiceAccountToken: &no})
	chain := New(Config{Reader: newShelf(), EvictionGrace: 1500 * time.Millisecond})
	if err := chain.Admit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	two, zero, policy := int64(2), int32(0), corev1.PreemptLowerPriority
	want := corev1.PodSpec{
		ServiceAccountName: "default", DeprecatedServiceAccount: "default", AutomountServiceAccountToken: &no, Priority: &zero, PreemptionPolicy: &policy,
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &two},
			{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &two},
		},
	}
	got := r.Object.(*corev1.Pod).Spec
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if err := chain.Admit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, r.Object.(*corev1.Pod).Spec); diff != "" {
		t.Errorf("admitted again, it changed:\n%s", diff)
	}
}

func TestExplicitTolerationsAreHonoured(t *testing.T) {
	hour := int64(3600)
	for _, c := range []struct {
		name  string
		given corev1.Toleration
		added int
	}{
		{"one of the two", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &hour}, 1},
		{"everything", corev1.Toleration{Operator: "Exists"}, 0},
		{"another effect", corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: "Exists", Effect: "NoSchedule"}, 2},
		{"another key", corev1.Toleration{Key: "mine", Operator: "Exists"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := podRequest("default", corev1.PodSpec{Tolerations: []corev1.Toleration{c.given}})
			if err := New(Config{Reader: newShelf()}).Admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			got := r.Object.(*corev1.Pod).Spec.Tolerations
			if len(got) != 1+c.added || !cmp.Equal(got[0], c.given) {
				t.Errorf("got %v, want %v and %d more", got, c.given, c.added)
			}
		})
	}
}

func TestPullSecretsComeFromTheAccount(t *testing.T) {
	own := []corev1.LocalObjectReference{{Name: "own"}}
	for _, c := range []struct {
		name        string
		given, want []corev1.LocalObjectReference
	}{
		{"none of its own", nil, []corev1.LocalObjectReference{{Name: "key"}}},
		{"its own", own, own},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := podRequest("default", corev1.PodSpec{ServiceAccountName: "puller", ImagePullSecrets: c.given})
			if err := New(Config{Reader: newShelf()}).Admit(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, r.Object.(*corev1.Pod).Spec.ImagePullSecrets); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func priorityClass(name string, value int32, global bool) *schedulingv1.PriorityClass {
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, GlobalDefault: global}
}

func TestPriorityComesFromTheClass(t *testing.T) {
	never := corev1.PreemptNever
	patient := priorityClass("patient", 7, false)
	patient.PreemptionPolicy = &never
	own := newShelf().put(api.PriorityClasses, patient)
	withDefault := newShelf().put(api.PriorityClasses, priorityClass("high", 9, true)).put(api.PriorityClasses, priorityClass("low", 3, true))
	for _, c := range []struct {
		name   string
		stored shelf
		class  string
		want   string
		value  int32
		policy corev1.PreemptionPolicy
	}{
		{"no class", own, "", "", 0, corev1.PreemptLowerPriority},
		{"a class of the user's", own, "patient", "patient", 7, corev1.PreemptNever},
		{"the lowest of several default classes", withDefault, "", "low", 3, corev1.PreemptLowerPriority},
		{"a class in spite of a default one", withDefault, "high", "high", 9, corev1.PreemptLowerPriority},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := podRequest("default", corev1.PodSpec{PriorityClassName: c.class})
			chain := New(Config{Reader: c.stored})
			for range 2 { // the second time it meets its own result
				if err := chain.Admit(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			got := r.Object.(*corev1.Pod).Spec
			if got.PriorityClassName != c.want || *got.Priority != c.value || *got.PreemptionPolicy != c.policy {
				t.Errorf("class %q, priority %d, %s", got.PriorityClassName, *got.Priority, *got.PreemptionPolicy)
			}
		})
	}
}

func TestOneDefaultPriorityClass(t *testing.T) {
	chain := New(Config{Reader: newShelf().put(api.PriorityClasses, priorityClass("a", 1, true))})
	request := func(c *schedulingv1.PriorityClass) *Request {
		return &Request{Operation: Create, Kind: api.PriorityClasses, Key: client.Key{Name: c.Name}, Object: c}
	}
	if err := chain.Admit(t.Context(), request(priorityClass("b", 1, true))); !apierrors.IsForbidden(err) {
		t.Errorf("a second default class: %v", err)
	}
	for _, c := range []*schedulingv1.PriorityClass{priorityClass("a", 1, true), priorityClass("b", 1, false)} {
		if err := chain.Admit(t.Context(), request(c)); err != nil {
			t.Error(err)
		}
	}
}

func TestReplacedPodsKeepTheirTolerations(t *testing.T) {
	created := podRequest("default", corev1.PodSpec{})
	chain := New(Config{Reader: newShelf()})
	if err := chain.Admit(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	replaced := podRequest("default", corev1.PodSpec{})
	replaced.Operation, replaced.OldObject = Update, created.Object
	if err := chain.Admit(t.Context(), replaced); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(created.Object.(*corev1.Pod).Spec.Tolerations, replaced.Object.(*corev1.Pod).Spec.Tolerations); diff != "" {
		t.Error(diff)
	}
}

func TestUpdateKeepsWhatWasComputed(t *testing.T) {
	value, policy := int32(0), corev1.PreemptLowerPriority
	everything := []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	old := &corev1.Pod{Spec: corev1.PodSpec{Priority: &value, PreemptionPolicy: &policy, Tolerations: everything}}
	r := &Request{Operation: Update, Kind: api.Pods, Object: &corev1.Pod{Spec: corev1.PodSpec{Tolerations: everything}}, OldObject: old}
	if err := New(Config{Reader: newShelf()}).Admit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(old.Spec, r.Object.(*corev1.Pod).Spec); diff != "" {
		t.Error(diff)
	}
}

// fence is a NodeRestriction that refuses everything of one user.
type fence struct{ user string }

func (f fence) Admit(_ context.Context, r *Request) error {
	if r.User != nil && r.User.Name == f.user {
		return r.forbidden(context.Canceled)
	}
	return nil
}

func TestNodeRestrictionIsAskedAboutUsersOnly(t *testing.T) {
	chain := New(Config{Reader: newShelf(), NodeRestriction: fence{"system:node:a"}})
	for _, c := range []struct {
		user    *User
		refused bool
	}{{nil, false}, {&User{Name: "system:node:a"}, true}, {&User{Name: "system:node:b"}, false}} {
		r := podRequest("default", corev1.PodSpec{})
		r.User = c.user
		if err := chain.Admit(t.Context(), r); (err != nil) != c.refused {
			t.Errorf("%v: %v", c.user, err)
		}
	}
}

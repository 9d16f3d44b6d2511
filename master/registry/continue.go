package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// continueToken says where the next page of a list begins, and at which revision. It means the same on every peer.
type continueToken struct {
	Rev   store.Rev  `json:"rv"`
	After client.Key `json:"after"`
}

func (t continueToken) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // two strings and a number always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// from is the first key that may follow the token's.
func (t continueToken) from(k *api.Kind) store.Key { return keyOf(k, t.After) + "\x00" }

func parseContinue(s string) (continueToken, error) {
	var t continueToken
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	if t.Rev == 0 || t.After.Name == "" {
		return t, badRequest("invalid continue token: continue key is not valid: it names no place")
	}
	return t, nil
}

// expiredList is the error of a page whose revision the store cannot show.
func expiredList(err error) error {
	if errors.Is(err, store.ErrCompacted) {
		return apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
			"You must start a new list without the continue parameter.")
	}
	if errors.Is(err, store.ErrFuture) {
		return tooLarge("Too large resource version")
	}
	return internal(err)
}

package registry

import (
	"encoding/json"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"shoal/internal/api"
	"shoal/internal/client"
)

func FuzzContinueToken(f *testing.F) {
	f.Add(continueToken{Rev: 7, After: client.Key{Namespace: "a", Name: "b"}}.String())
	f.Add("garbage")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseContinue(s)
		if err != nil {
			return
		}
		again, err := parseContinue(tok.String())
		if err != nil || again != tok {
			t.Errorf("%+v became %+v, %v", tok, again, err)
		}
	})
}

func FuzzSelectors(f *testing.F) {
	for _, s := range []string{"a=b", "a in (b,c),!d", "metadata.name=x", "spec.nodeName!=", "a\\,b=c", "n>2", "(", "=", ",,"} {
		f.Add(s)
	}
	e := newEntry(api.Pods, client.Key{Namespace: "ns", Name: "p"}, &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}}, 1)
	f.Fuzz(func(_ *testing.T, s string) {
		var o client.ListOptions
		o.Labels, _ = ParseLabels(s)
		o.Fields, _ = ParseFields(s)
		if sel, err := newSelection(api.Pods, o); err == nil {
			sel.matches(e)
		}
	})
}

func FuzzPatchBodies(f *testing.F) {
	for _, s := range []string{
		`{"spec":{"containers":[{"name":"c","image":"x"}]}}`, `{"spec":{"containers":[{"$patch":"delete","name":"c"}]}}`,
		`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, `[{"op":"copy","from":"/spec","path":"/x"}]`, `null`, `[]`, `{"$patch":"replace"}`, `{"spec":{"$retainKeys":["x"]}}`,
	} {
		f.Add(s)
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	pod.Name = "p"
	was, err := json.Marshal(pod)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, kind := range []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType} {
			now, err := patchJSON(was, client.Patch{Type: kind, Data: []byte(body)}, &corev1.Pod{})
			if err != nil {
				var status apierrors.APIStatus
				if !errors.As(err, &status) || status.Status().Code >= 500 {
					t.Errorf("%s: a mistake of the client is %v", kind, err)
				}
				continue
			}
			_, _ = decodePatched(now, &corev1.Pod{}, "", false)
		}
	})
}

package clienttest

import (
	"context"
	"errors"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"shoal/internal/api"
	"shoal/internal/client"
)

func objectLaws() []law {
	return []law{
		{"CreateReturnsWhatGetReturns", createReturnsWhatGetReturns},
		{"CreateOfAnExistingNameIsAlreadyExists", createTwice},
		{"CreateOfAnInvalidObjectIsInvalidAndSaysWhere", createInvalid},
		{"GenerateNameMakesDistinctNames", generateName},
		{"GetOfAMissingObjectIsNotFound", getMissing},
		{"UpdateReplacesAndRaisesTheRevision", updateReplaces},
		{"UpdateWithAnOldRevisionIsConflict", updateStale},
		{"UpdateOfAMissingObjectIsNotFound", updateMissing},
		{"UpdateOfAnotherUIDIsConflict", updateOtherUID},
		{"UpdateOfAMissingObjectWithAUIDIsConflict", updateMissingUID},
		{"AnUpdateThatChangesNothingKeepsTheRevision", updateNothing},
		{"ArgumentsAreNotChanged", argumentsUnchanged},
		{"DryRunChangesNothing", dryRun},
		{"GenerationCountsChangesOfTheSpec", generation},
		{"ACancelledContextEndsACall", cancelled},
		{"AWriteIsReadByTheNextRead", readYourWrites},
	}
}

func createReturnsWhatGetReturns(e *env) {
	out := create(e, api.ConfigMaps, e.configMap("a", "1"))
	if out.UID == "" || out.ResourceVersion == "" || out.CreationTimestamp.IsZero() {
		e.Fatalf("incomplete metadata: %+v", out.ObjectMeta)
	}
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); !same(out, got) {
		e.Fatalf("created %+v\ngot     %+v", out, got)
	}
}

func createTwice(e *env) {
	create(e, api.ConfigMaps, e.configMap("a", "1"))
	_, err := e.c.Create(e.ctx, api.ConfigMaps, e.configMap("a", "2"), client.CreateOptions{})
	e.wantReason(err, metav1.StatusReasonAlreadyExists)
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); got.Data["v"] != "1" {
		e.Fatalf("the existing object became %v", got.Data)
	}
}

func createInvalid(e *env) {
	p := e.pod("a")
	p.Spec.Containers[0].Name = "Not_A_Name"
	_, err := e.c.Create(e.ctx, api.Pods, p, client.CreateOptions{})
	e.wantReason(err, metav1.StatusReasonInvalid)
	var status *apierrors.StatusError
	errors.As(err, &status)
	if d := status.ErrStatus.Details; d == nil || len(d.Causes) == 0 || d.Causes[0].Field != "spec.containers[0].name" {
		e.Fatalf("details are %+v", d)
	}
}

func generateName(e *env) {
	seen := map[string]bool{}
	for range 5 {
		cm := e.configMap("", "1")
		cm.GenerateName = "some-"
		out := create(e, api.ConfigMaps, cm)
		if seen[out.Name] || len(out.Name) <= len("some-") {
			e.Fatalf("name %q", out.Name)
		}
		seen[out.Name] = true
	}
}

func getMissing(e *env) {
	_, err := e.c.Get(e.ctx, api.ConfigMaps, e.key("none"), client.GetOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)
}

func updateReplaces(e *env) {
	first := create(e, api.ConfigMaps, e.configMap("a", "1"))
	change := first.DeepCopy()
	change.Data = map[string]string{"w": "2"}
	second := update(e, api.ConfigMaps, change, "")
	if rev(e, second.ResourceVersion) <= rev(e, first.ResourceVersion) {
		e.Fatalf("revision went from %s to %s", first.ResourceVersion, second.ResourceVersion)
	}
	if second.UID != first.UID || !second.CreationTimestamp.Equal(&first.CreationTimestamp) {
		e.Fatal("the update changed what an object keeps for life")
	}
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); !reflect.DeepEqual(got.Data, change.Data) {
		e.Fatalf("stored %v", got.Data)
	}
	unconditional := change.DeepCopy()
	unconditional.ResourceVersion = ""
	unconditional.Data = map[string]string{"x": "3"}
	update(e, api.ConfigMaps, unconditional, "")
}

func updateStale(e *env) {
	first := create(e, api.ConfigMaps, e.configMap("a", "1"))
	a, b := first.DeepCopy(), first.DeepCopy()
	a.Data["v"], b.Data["v"] = "a", "b"
	update(e, api.ConfigMaps, a, "")
	_, err := e.c.Update(e.ctx, api.ConfigMaps, b, client.UpdateOptions{})
	e.wantReason(err, metav1.StatusReasonConflict)
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "a"); got.Data["v"] != "a" {
		e.Fatalf("stored %v", got.Data)
	}
}

func updateMissing(e *env) {
	_, err := e.c.Update(e.ctx, api.ConfigMaps, e.configMap("none", "1"), client.UpdateOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)
}

func updateOtherUID(e *env) {
	cm := create(e, api.ConfigMaps, e.configMap("a", "1"))
	cm.UID, cm.ResourceVersion = "5f7a4c4e-0000-4000-8000-000000000000", ""
	_, err := e.c.Update(e.ctx, api.ConfigMaps, cm, client.UpdateOptions{})
	e.wantReason(err, metav1.StatusReasonConflict)
}

// updateMissingUID: whoever knows the UID means an object that was there, so that "it is another now" is the answer.
func updateMissingUID(e *env) {
	cm := e.configMap("none", "1")
	cm.UID = "5f7a4c4e-0000-4000-8000-000000000000"
	_, err := e.c.Update(e.ctx, api.ConfigMaps, cm, client.UpdateOptions{})
	e.wantReason(err, metav1.StatusReasonConflict)
}

func updateNothing(e *env) {
	first := create(e, api.ConfigMaps, e.configMap("a", "1"))
	if again := update(e, api.ConfigMaps, first.DeepCopy(), ""); again.ResourceVersion != first.ResourceVersion {
		e.Fatalf("revision went from %s to %s", first.ResourceVersion, again.ResourceVersion)
	}
}

func argumentsUnchanged(e *env) {
	cm := e.configMap("a", "1")
	before := cm.DeepCopy()
	out := create(e, api.ConfigMaps, cm)
	if !reflect.DeepEqual(cm, before) {
		e.Fatalf("Create changed its argument to %+v", cm)
	}
	out.Data["v"] = "2"
	before = out.DeepCopy()
	update(e, api.ConfigMaps, out, "")
	if !reflect.DeepEqual(out, before) {
		e.Fatalf("Update changed its argument to %+v", out)
	}
}

func dryRun(e *env) {
	out, err := e.c.Create(e.ctx, api.ConfigMaps, e.configMap("a", "1"), client.CreateOptions{DryRun: true})
	if err != nil || out == nil {
		e.Fatalf("dry run: %v, %v", out, err)
	}
	_, err = e.c.Get(e.ctx, api.ConfigMaps, e.key("a"), client.GetOptions{})
	e.wantReason(err, metav1.StatusReasonNotFound)

	stored := create(e, api.ConfigMaps, e.configMap("b", "1"))
	change := stored.DeepCopy()
	change.Data["v"] = "2"
	if _, err := e.c.Update(e.ctx, api.ConfigMaps, change, client.UpdateOptions{DryRun: true}); err != nil {
		e.Fatal(err)
	}
	if _, err := e.c.Delete(e.ctx, api.ConfigMaps, e.key("b"), client.DeleteOptions{DryRun: true}); err != nil {
		e.Fatal(err)
	}
	if got := get[*corev1.ConfigMap](e, api.ConfigMaps, "b"); !same(stored, got) {
		e.Fatalf("stored %+v", got)
	}
	_, err = e.c.Create(e.ctx, api.ConfigMaps, e.configMap("b", "1"), client.CreateOptions{DryRun: true})
	e.wantReason(err, metav1.StatusReasonAlreadyExists)
}

func generation(e *env) {
	rc := create(e, api.ReplicationControllers, e.controller("a"))
	if rc.Generation != 1 {
		e.Fatalf("a new object has generation %d", rc.Generation)
	}
	// Controllers may be at work on it: without a revision the last write wins.
	rc.ResourceVersion = ""
	rc.Labels = map[string]string{"new": "label"}
	rc = update(e, api.ReplicationControllers, rc, "")
	if rc.Generation != 1 {
		e.Fatalf("a label made it generation %d", rc.Generation)
	}
	rc.ResourceVersion = ""
	rc.Spec.MinReadySeconds = 7
	if rc = update(e, api.ReplicationControllers, rc, ""); rc.Generation != 2 {
		e.Fatalf("a change of the spec made it generation %d", rc.Generation)
	}
}

func cancelled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	w, err := e.c.Watch(ctx, api.ConfigMaps, client.ListOptions{Namespace: e.ns, ResourceVersion: e.listRev(api.ConfigMaps)})
	if err != nil {
		e.Fatal(err)
	}
	defer w.Close()
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		e.Fatalf("Next: %v", err)
	}
	if _, err := e.c.Create(ctx, api.ConfigMaps, e.configMap("a", "1"), client.CreateOptions{}); err == nil {
		e.Fatal("Create with a cancelled context succeeded")
	}
}

func readYourWrites(e *env) {
	for i := range 20 {
		name := "cm-" + string(rune('a'+i))
		out := create(e, api.ConfigMaps, e.configMap(name, "1"))
		if got := get[*corev1.ConfigMap](e, api.ConfigMaps, name); got.ResourceVersion != out.ResourceVersion {
			e.Fatalf("wrote %s, read %s", out.ResourceVersion, got.ResourceVersion)
		}
		got, err := e.c.Get(e.ctx, api.ConfigMaps, e.key(name), client.GetOptions{ResourceVersion: out.ResourceVersion})
		if err != nil || got.GetResourceVersion() != out.ResourceVersion {
			e.Fatalf("at least %s: %v, %v", out.ResourceVersion, got, err)
		}
	}
}

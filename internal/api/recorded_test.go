package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// recorded is one exchange with a real API server.
type recorded struct {
	ID      string `json:"id"`
	Seq     string `json:"seq"`
	Indep   bool   `json:"indep"`
	Request struct {
		Method      string            `json:"method"`
		Path        string            `json:"path"`
		Query       map[string]string `json:"query"`
		Body        json.RawMessage   `json:"body"`
		Raw         *string           `json:"raw"`
		ContentType string            `json:"contentType"`
		Accept      string            `json:"accept"`
	} `json:"request"`
	Response answer `json:"response"`
}

type answer struct {
	Code   int `json:"code"`
	Causes []struct {
		Field  string `json:"field"`
		Reason string `json:"reason"`
	} `json:"causes"`
	Object any `json:"object"`
}

func readRecorded(t *testing.T, name string) []recorded {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "recorded", name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []recorded
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r recorded
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, r)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// server answers as the registry does with this package's rows, from a map: no admission but the allocation of
// addresses and ports, so that what is compared is defaults, validation and tables.
type server struct {
	table   *Table
	codecs  *Codecs
	objects map[string]Object
	order   []string
	next    int
}

func newServer() *server {
	return &server{table: Default(), codecs: NewCodecs(NewScheme()), objects: map[string]Object{}}
}

const testNamespace = "o-1"

func (s *server) do(r *recorded) (answer, error) {
	path := strings.ReplaceAll(r.Request.Path, "{ns}", testNamespace)
	kind, namespace, name, sub, err := s.route(path)
	if err != nil {
		return answer{}, err
	}
	body := []byte(strings.ReplaceAll(string(expandRepeats(r.Request.Body)), "{ns}", testNamespace))
	var o any
	code := http.StatusOK
	switch r.Request.Method {
	case http.MethodPost:
		code = http.StatusCreated
		o, err = s.create(kind, namespace, body)
	case http.MethodPatch:
		o, err = s.patch(kind, namespace, name, sub, r.Request.ContentType, body)
	case http.MethodDelete:
		delete(s.objects, key(kind, namespace, name))
	case http.MethodGet:
		o, err = s.get(r, kind, namespace, name)
	default:
		return answer{}, fmt.Errorf("method %s is not recorded", r.Request.Method)
	}
	if err != nil {
		status := apierrors.APIStatus(nil)
		if !asStatus(err, &status) {
			return answer{}, err
		}
		a := answer{Code: int(status.Status().Code)}
		if d := status.Status().Details; d != nil {
			for _, c := range d.Causes {
				a.Causes = append(a.Causes, struct {
					Field  string `json:"field"`
					Reason string `json:"reason"`
				}{c.Field, string(c.Type)})
			}
		}
		return a, nil
	}
	if r.Indep && r.Request.Method == http.MethodPost {
		delete(s.objects, key(kind, namespace, o.(Object).GetName()))
	}
	return answer{Code: code, Object: asJSON(o)}, nil
}

func asStatus(err error, to *apierrors.APIStatus) bool {
	s, ok := err.(apierrors.APIStatus)
	*to = s
	return ok
}

func asJSON(o any) any {
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		panic(err)
	}
	return v
}

// expandRepeats replaces "{repeat:N}".
func expandRepeats(data []byte) []byte {
	text := string(data)
	for {
		before, rest, ok := strings.Cut(text, "{repeat:")
		if !ok {
			return []byte(text)
		}
		count, after, _ := strings.Cut(rest, "}")
		var n int
		fmt.Sscan(count, &n)
		text = before + strings.Repeat("x", n) + after
	}
}

func (s *server) route(path string) (k *Kind, namespace, name, sub string, err error) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	gv := schema.GroupVersion{Version: "v1"}
	if parts[0] == "apis" {
		gv = schema.GroupVersion{Group: parts[1], Version: parts[2]}
		parts = parts[3:]
	} else {
		parts = parts[2:]
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		namespace, parts = parts[1], parts[2:]
	}
	k, ok := s.table.ByResource(gv.WithResource(parts[0]))
	if !ok {
		return nil, "", "", "", fmt.Errorf("no resource %s", parts[0])
	}
	parts = append(parts, "", "")
	return k, namespace, parts[1], parts[2], nil
}

func key(k *Kind, namespace, name string) string { return k.Resource + "/" + namespace + "/" + name }

func (s *server) create(k *Kind, namespace string, body []byte) (Object, error) {
	decoded, _, err := s.codecs.Decode(body, MediaJSON, metav1.FieldValidationIgnore, k.GroupVersionKind)
	if err != nil {
		return nil, err
	}
	o := decoded.(Object)
	if k.Namespaced && o.GetNamespace() != "" && o.GetNamespace() != namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	o.SetNamespace(namespace)
	if o.GetName() == "" && o.GetGenerateName() != "" {
		o.SetName(o.GetGenerateName() + "abcde")
	}
	o.SetUID("u")
	if k.Default != nil {
		k.Default(o)
	}
	if k.PrepareCreate != nil {
		k.PrepareCreate(o)
	}
	if k.Generation {
		o.SetGeneration(1)
	}
	errs := k.ValidateMeta(o)
	if k.Validate != nil {
		errs = append(errs, k.Validate(o)...)
	}
	if err := invalid(k, o, errs); err != nil {
		return nil, err
	}
	if s.objects[key(k, namespace, o.GetName())] != nil {
		return nil, apierrors.NewAlreadyExists(k.GVR().GroupResource(), o.GetName())
	}
	s.allocate(o)
	o.SetResourceVersion("7")
	o.SetCreationTimestamp(metav1.Unix(1600000000, 0))
	at := key(k, namespace, o.GetName())
	s.objects[at] = o
	s.order = append(s.order, at)
	return o, nil
}

func invalid(k *Kind, o Object, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(k.GroupKind(), o.GetName(), errs)
}

func (s *server) allocate(o Object) {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return
	}
	s.next++
	if NeedsClusterIP(svc) {
		svc.Spec.ClusterIP = fmt.Sprintf("10.43.9.%d", s.next%250+1)
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
	for i := range svc.Spec.Ports {
		if NeedsNodePorts(svc) && svc.Spec.Ports[i].NodePort == 0 {
			svc.Spec.Ports[i].NodePort = int32(30000 + s.next*10 + i)
		}
	}
	if NeedsHealthCheckPort(svc) && svc.Spec.HealthCheckNodePort == 0 {
		svc.Spec.HealthCheckNodePort = int32(32000 + s.next)
	}
}

func (s *server) patch(k *Kind, namespace, name, sub, contentType string, patch []byte) (Object, error) {
	old := s.objects[key(k, namespace, name)]
	if old == nil {
		return nil, apierrors.NewNotFound(k.GVR().GroupResource(), name)
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	var after []byte
	if types.PatchType(contentType) == types.StrategicMergePatchType {
		after, err = strategicpatch.StrategicMergePatch(before, patch, k.New())
	} else {
		after, err = jsonpatch.MergePatch(before, patch)
	}
	if err != nil {
		return nil, err
	}
	updated := k.New()
	if err := json.Unmarshal(after, updated); err != nil {
		return nil, err
	}
	updated.GetObjectKind().SetGroupVersionKind(k.GroupVersionKind)
	if updated.GetResourceVersion() != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(k.GVR().GroupResource(), name, nil)
	}
	if updated.GetName() != name || updated.GetNamespace() != namespace {
		return nil, apierrors.NewBadRequest("the name or namespace of the object does not match the URL")
	}
	if k.Default != nil {
		k.Default(updated)
	}
	var errs field.ErrorList
	if sub == "status" || sub == "approval" {
		given := updated
		updated = old.DeepCopyObject().(Object)
		if sub == "status" {
			k.CopyStatus(updated, given)
		} else {
			k.CopyApproval(updated, given)
		}
		if k.PrepareStatus != nil {
			k.PrepareStatus(updated, old)
		}
		errs = k.ValidateStatus(updated, old)
	} else {
		if k.PrepareUpdate != nil {
			k.PrepareUpdate(updated, old)
		}
		updated.SetCreationTimestamp(old.GetCreationTimestamp())
		updated.SetGeneration(old.GetGeneration())
		errs = k.ValidateMetaUpdate(updated, old)
		errs = append(errs, k.ValidateUpdate(updated, old)...)
	}
	if err := invalid(k, updated, errs); err != nil {
		return nil, err
	}
	s.allocate(updated)
	annotated := k.GenerationOfAnnotations && !reflect.DeepEqual(updated.GetAnnotations(), old.GetAnnotations())
	if k.Generation && sub == "" && (annotated || !reflect.DeepEqual(specOf(updated), specOf(old))) {
		updated.SetGeneration(old.GetGeneration() + 1)
	}
	s.objects[key(k, namespace, name)] = updated
	return updated, nil
}

// specOf is everything but metadata and status.
func specOf(o Object) any {
	m := asJSON(o).(map[string]any)
	delete(m, "metadata")
	delete(m, "status")
	return m
}

func (s *server) get(r *recorded, k *Kind, namespace, name string) (any, error) {
	var found []Object
	if name != "" {
		o := s.objects[key(k, namespace, name)]
		if o == nil {
			return nil, apierrors.NewNotFound(k.GVR().GroupResource(), name)
		}
		found = append(found, o)
	} else {
		selector, err := fields.ParseSelector(r.Request.Query["fieldSelector"])
		if err != nil {
			return nil, err
		}
		for _, at := range s.order {
			o := s.objects[at]
			if o == nil || !strings.HasPrefix(at, k.Resource+"/"+namespace+"/") || !selector.Matches(allFields(k, o)) {
				continue
			}
			found = append(found, o)
		}
	}
	if !strings.Contains(r.Request.Accept, "Table") {
		return found[0], nil
	}
	version := "v1"
	if strings.Contains(r.Request.Accept, "v1beta1") {
		version = "v1beta1"
	}
	table := &metav1.Table{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "Table"}, ColumnDefinitions: slices.Clone(k.Columns)}
	for i := range table.ColumnDefinitions {
		table.ColumnDefinitions[i].Description = ""
	}
	for _, o := range found {
		row := metav1.TableRow{Cells: k.Cells(o, time.Now())}
		if k.RowConditions != nil {
			row.Conditions = k.RowConditions(o)
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

func allFields(k *Kind, o Object) fields.Set {
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	if k.Fields != nil {
		for name, value := range k.Fields(o) {
			set[name] = value
		}
	}
	return set
}

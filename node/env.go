package node

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"shoal/node/downward"
	"shoal/node/volume"
)

// surroundings are what an environment is made of besides the container.
type surroundings struct {
	pod         *corev1.Pod // its status holds the pod's addresses
	services    []*corev1.Service
	objects     volume.Objects
	allocatable corev1.ResourceList
}

// environment returns a container's variables in order: the Services', then envFrom's, then env's; later ones win.
func environment(c *corev1.Container, s surroundings) ([]corev1.EnvVar, error) {
	var out []corev1.EnvVar
	index := map[string]int{}
	set := func(name, value string) {
		if i, ok := index[name]; ok {
			out[i].Value = value
			return
		}
		index[name] = len(out)
		out = append(out, corev1.EnvVar{Name: name, Value: value})
	}
	for _, e := range serviceEnv(s.pod, s.services) {
		set(e.Name, e.Value)
	}
	for _, f := range c.EnvFrom {
		data, err := envFrom(s, f)
		if err != nil {
			return nil, err
		}
		for _, e := range data {
			set(f.Prefix+e.Name, e.Value)
		}
	}
	lookup := func(name string) (string, bool) {
		i, ok := index[name]
		if !ok {
			return "", false
		}
		return out[i].Value, true
	}
	for _, e := range c.Env {
		value, ok, err := envValue(c, s, e, lookup)
		if err != nil {
			return nil, err
		}
		if ok {
			set(e.Name, value)
		}
	}
	return out, nil
}

func envFrom(s surroundings, f corev1.EnvFromSource) ([]corev1.EnvVar, error) {
	data := map[string]string{}
	switch {
	case f.ConfigMapRef != nil:
		m, err := s.objects.ConfigMap(s.pod.Namespace, f.ConfigMapRef.Name)
		if absent(err, f.ConfigMapRef.Optional) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		data = m.Data
	case f.SecretRef != nil:
		m, err := s.objects.Secret(s.pod.Namespace, f.SecretRef.Name)
		if absent(err, f.SecretRef.Optional) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for k, v := range m.Data {
			data[k] = string(v)
		}
	}
	out := make([]corev1.EnvVar, 0, len(data))
	for k, v := range data {
		if len(validation.IsRelaxedEnvVarName(f.Prefix+k)) == 0 {
			out = append(out, corev1.EnvVar{Name: k, Value: v})
		}
	}
	slices.SortFunc(out, func(a, b corev1.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// absent reports whether err says that something is not there that need not be.
func absent(err error, optional *bool) bool {
	return apierrors.IsNotFound(err) && optional != nil && *optional
}

func envValue(c *corev1.Container, s surroundings, e corev1.EnvVar, lookup func(string) (string, bool)) (value string, ok bool, err error) {
	f := e.ValueFrom
	switch {
	case f == nil:
		return expand(e.Value, lookup), true, nil
	case f.FieldRef != nil:
		value, err = downward.Field(s.pod, f.FieldRef.FieldPath)
		return value, true, err
	case f.ResourceFieldRef != nil:
		value, err = downward.Resource(s.pod, c, f.ResourceFieldRef, s.allocatable)
		return value, true, err
	case f.ConfigMapKeyRef != nil:
		r := f.ConfigMapKeyRef
		m, err := s.objects.ConfigMap(s.pod.Namespace, r.Name)
		if err != nil {
			if absent(err, r.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		value, ok := m.Data[r.Key]
		if !ok && (r.Optional == nil || !*r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in ConfigMap %s/%s", r.Key, s.pod.Namespace, r.Name)
		}
		return value, ok, nil
	case f.SecretKeyRef != nil:
		r := f.SecretKeyRef
		m, err := s.objects.Secret(s.pod.Namespace, r.Name)
		if err != nil {
			if absent(err, r.Optional) {
				return "", false, nil
			}
			return "", false, err
		}
		value, ok := m.Data[r.Key]
		if !ok && (r.Optional == nil || !*r.Optional) {
			return "", false, fmt.Errorf("couldn't find key %s in Secret %s/%s", r.Key, s.pod.Namespace, r.Name)
		}
		return string(value), ok, nil
	}
	return "", false, fmt.Errorf("variable %s has a source that is not supported", e.Name)
}

// expand replaces $(NAME) by its value; what is unknown stays as it is, and $$ is a dollar.
func expand(s string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s = s[2:]
			continue
		case '(':
			if end := strings.IndexByte(s, ')'); end > 0 {
				if v, ok := lookup(s[2:end]); ok {
					b.WriteString(v)
				} else {
					b.WriteString(s[:end+1])
				}
				s = s[end+1:]
				continue
			}
		}
		b.WriteString(s[:2])
		s = s[2:]
	}
}

// serviceEnv returns the variables of the Services a pod is told of: those of its namespace, unless it does not want
// them, and the API's own always.
func serviceEnv(p *corev1.Pod, services []*corev1.Service) []corev1.EnvVar {
	const apiNamespace, apiName = "default", "kubernetes"
	links := p.Spec.EnableServiceLinks == nil || *p.Spec.EnableServiceLinks
	byName := map[string]*corev1.Service{}
	for _, s := range services {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		switch {
		case links && s.Namespace == p.Namespace:
			byName[s.Name] = s
		case s.Namespace == apiNamespace && s.Name == apiName:
			if byName[s.Name] == nil {
				byName[s.Name] = s
			}
		}
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []corev1.EnvVar
	for _, name := range names {
		out = append(out, serviceVars(byName[name])...)
	}
	return out
}

func serviceVars(s *corev1.Service) []corev1.EnvVar {
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	prefix := upper(s.Name)
	port := func(n int32) string { return strconv.Itoa(int(n)) }
	first := s.Spec.Ports[0]
	out := []corev1.EnvVar{
		{Name: prefix + "_SERVICE_HOST", Value: s.Spec.ClusterIP},
		{Name: prefix + "_SERVICE_PORT", Value: port(first.Port)},
	}
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			out = append(out, corev1.EnvVar{Name: prefix + "_SERVICE_PORT_" + upper(p.Name), Value: port(p.Port)})
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(cmp.Or(p.Protocol, corev1.ProtocolTCP))
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(s.Spec.ClusterIP, port(p.Port))
		if i == 0 {
			out = append(out, corev1.EnvVar{Name: prefix + "_PORT", Value: url})
		}
		at := prefix + "_PORT_" + port(p.Port) + "_" + strings.ToUpper(protocol)
		out = append(out,
			corev1.EnvVar{Name: at, Value: url},
			corev1.EnvVar{Name: at + "_PROTO", Value: strings.ToLower(protocol)},
			corev1.EnvVar{Name: at + "_PORT", Value: port(p.Port)},
			corev1.EnvVar{Name: at + "_ADDR", Value: s.Spec.ClusterIP},
		)
	}
	return out
}

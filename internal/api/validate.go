package api

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The functions here are the words of validation: each says one thing about one value and returns what is wrong.

// each turns the library's plain messages about a value into errors.
func each(at *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(at, value, m))
	}
	return errs
}

func notNegative(n int64, at *field.Path) field.ErrorList {
	if n < 0 {
		return field.ErrorList{field.Invalid(at, n, "must be greater than or equal to 0")}
	}
	return nil
}

func required(s string, at *field.Path) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func isLabel(s string, at *field.Path) field.ErrorList {
	return each(at, s, validation.IsDNS1123Label(s))
}

func isSubdomain(s string, at *field.Path) field.ErrorList {
	return each(at, s, validation.IsDNS1123Subdomain(s))
}

func isQualifiedName(s string, at *field.Path) field.ErrorList {
	return each(at, s, validation.IsQualifiedName(s))
}

func isPort(n int32, at *field.Path) field.ErrorList {
	return each(at, n, validation.IsValidPortNum(int(n)))
}

func isPortOrName(p intstr.IntOrString, at *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return each(at, p.IntValue(), validation.IsValidPortNum(p.IntValue()))
	}
	return each(at, p.StrVal, validation.IsValidPortName(p.StrVal))
}

func isIP(s string, at *field.Path) field.ErrorList {
	return validation.IsValidIPForLegacyField(at, s, true, nil)
}

// oneOf wants one of the supported values; empty is missing.
func oneOf[T ~string](v T, at *field.Path, supported ...T) field.ErrorList {
	switch {
	case v == "":
		return field.ErrorList{field.Required(at, "")}
	case !slices.Contains(supported, v):
		return field.ErrorList{field.NotSupported(at, v, supported)}
	}
	return nil
}

// optionalOneOf is oneOf for a pointer that may be nil.
func optionalOneOf[T ~string](v *T, at *field.Path, supported ...T) field.ErrorList {
	if v == nil || slices.Contains(supported, *v) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, *v, supported)}
}

func unchanged(updated, old any, at *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(updated, old, at)
}

func isSame(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// a set of what was seen finds duplicates.
type seen[T comparable] map[T]bool

// add reports whether v was there already.
func (s seen[T]) add(v T) bool {
	had := s[v]
	s[v] = true
	return had
}

package node

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"shoal/internal/api"
	"shoal/internal/client"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

// unreachable is an API that cannot be listed or watched.
type unreachable struct{ client.Interface }

func (unreachable) List(context.Context, *api.Kind, client.ListOptions) (*client.List, error) {
	return nil, apierrors.NewServiceUnavailable("no API")
}

func (unreachable) Watch(context.Context, *api.Kind, client.ListOptions) (client.Watch, error) {
	return nil, apierrors.NewServiceUnavailable("no API")
}

package registry

import (
	"strings"

	"shoal/consensus/store"
	"shoal/internal/api"
	"shoal/internal/client"
)

// Keys in the store are "/" + resource[.group] + "/" + [namespace + "/"] + name.

// pathOf returns the first segment of the keys of a kind.
func pathOf(k *api.Kind) string {
	if k.Stored != nil {
		k = k.Stored
	}
	if k.Group == "" {
		return k.Resource
	}
	return k.Resource + "." + k.Group
}

// prefixOf returns what the keys of a kind begin with, in one namespace when it is given.
func prefixOf(k *api.Kind, namespace string) store.Key {
	p := "/" + pathOf(k) + "/"
	if k.Namespaced && namespace != "" {
		p += namespace + "/"
	}
	return store.Key(p)
}

func keyOf(k *api.Kind, key client.Key) store.Key {
	return prefixOf(k, key.Namespace) + store.Key(key.Name)
}

// splitKey returns the first segment of a key and the rest.
func splitKey(key store.Key) (path, rest string) {
	path, rest, _ = strings.Cut(strings.TrimPrefix(string(key), "/"), "/")
	return path, rest
}

// objectKey reads what follows the first segment of a key.
func objectKey(rest string) client.Key {
	if ns, name, ok := strings.Cut(rest, "/"); ok {
		return client.Key{Namespace: ns, Name: name}
	}
	return client.Key{Name: rest}
}

func compareKeys(a, b client.Key) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

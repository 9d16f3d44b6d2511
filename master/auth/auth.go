// Package auth finds out who sent a request and whether they may do what it asks. It keeps no state: tokens, voters and
// bindings come through small interfaces, and everything that decides is a pure function. The API's filter chain calls it,
// on the peer that received a request and again on the one that serves it. Its invariant: whoever is not known is
// anonymous or refused, and what no rule allows is forbidden.
package auth

import (
	"slices"
	"strings"
)

// The names that rules and certificates agree on.
const (
	Anonymous            = "system:anonymous"
	UnauthenticatedGroup = "system:unauthenticated"
	AuthenticatedGroup   = "system:authenticated"
	MastersGroup         = "system:masters"
	NodesGroup           = "system:nodes"
	NodePrefix           = "system:node:" // user of a peer: NodePrefix + its name
	BootstrappersGroup   = "system:bootstrappers"
)

// User is who sent a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	By     string // who acts as this user; empty: the user itself
}

// In reports whether the user is in a group. Nobody is in none.
func (u *User) In(group string) bool { return u != nil && slices.Contains(u.Groups, group) }

// Node is the name of the peer that the user is, or empty. It takes the group as well as the name.
func (u *User) Node() string {
	if !u.In(NodesGroup) {
		return ""
	}
	node, ok := strings.CutPrefix(u.Name, NodePrefix)
	if !ok {
		return ""
	}
	return node
}

// Attributes are what a request wants to do.
type Attributes struct {
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection; the method for other paths
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string // for requests that are not about resources
	IsResource  bool
}

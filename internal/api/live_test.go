package api

import "testing"

func TestLiveTable(t *testing.T) {
	base := NewTable(Pods, Services)
	l := NewLive(base)
	if l.Table() != base {
		t.Fatal("the first table is the one given")
	}
	changed := l.Changed()
	next := l.Next([]*Kind{Nodes})
	if _, ok := l.Table().ByResource(Nodes.GVR()); ok {
		t.Error("Next alone changes nothing")
	}
	select {
	case <-changed:
		t.Error("Next alone wakes nobody")
	default:
	}
	l.Set(next)
	<-changed
	if _, ok := l.Table().ByResource(Nodes.GVR()); !ok || l.Table().Generation() == base.Generation() {
		t.Error("Set replaces the table by one of another generation")
	}
	l.Set(l.Next(nil))
	if _, ok := l.Table().ByResource(Nodes.GVR()); ok || len(l.Table().Kinds()) != 2 {
		t.Error("rows that are not given again are gone; the first ones stay")
	}
}

package engine_test

import (
	"reflect"
	"sync"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// TestNotesNameTheApp: what gateways tell each other of a host, and to it, names
// its app, by which streams keep the order of it.
func TestNotesNameTheApp(t *testing.T) {
	r := newMeshRig(t, 4)
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(boot, app string, x any) {
		v := reflect.ValueOf(x).Elem()
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name == "Unlinked" && v.Field(i).Bool() || f.Type.Kind() == reflect.Pointer && !v.Field(i).IsNil() {
				seen[f.Name]++
				if boot == "h" && app != "app" && f.Name != "Up" && f.Name != "Changed" { // those bring it in the host's facts
					t.Errorf("%s of %s names the app %q", f.Name, boot, app)
				}
			}
		}
	}
	hear := func(n *engine.Note) {
		mu.Lock()
		defer mu.Unlock()
		if n.Host != nil {
			note(n.Host.Boot, n.Host.App, n.Host)
		}
		if n.ToHost != nil {
			note(n.ToHost.Boot, n.ToHost.App, n.ToHost)
		}
	}
	r.net.told.Store(&hear)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	h := &fakeHost{owners: a, info: actorHost("h"), serve: echo}
	defer h.stop()
	if err := a.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host is known", func() bool { _, ok := b.HostOf("h"); return ok })
	for range 3 {
		r.calls(t, a)
		r.calls(t, b)
	}
	for p := range uint16(4) {
		a.Deactivated("h", runtime.Deactivate{Partition: p})
	}
	a.LinkDown("h", h)
	if err := a.HostUp(h.info, runtime.JoinAnswer{Later: []runtime.TermSeen{{Partition: 0}, {Partition: 1}, {Partition: 2}, {Partition: 3}}}, h); err != nil {
		t.Fatal(err)
	}
	a.HostDown("h", "it has ended")
	mu.Lock()
	defer mu.Unlock()
	for _, kind := range []string{"Up", "Answered", "Deactivated", "Later", "Unlinked", "Down", "Invoke", "Taken"} {
		if seen[kind] == 0 {
			t.Errorf("no note of the kind %s: %v", kind, seen)
		}
	}
}

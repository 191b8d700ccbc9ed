package engine_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// TestMethodsThatAwaitPromises: methods that fill their host and wait for promises of
// their own component, as those of kar-sdk's asyncCall do, get them, as those do that call;
// and the component goes on for others.
func TestMethodsThatAwaitPromises(t *testing.T) {
	t.Run("calls", func(t *testing.T) { awaitOnFullHost(t, runtime.Call) })
	t.Run("promises", func(t *testing.T) { awaitOnFullHost(t, runtime.Promise) })
}

func awaitOnFullHost(t *testing.T, kind runtime.Kind) {
	const room = 2
	n := open(t, t.TempDir(), 1, func(c *engine.Config) { c.HostLimit = room })
	service := runtime.Target{App: "app", Service: "s"}
	var arrived atomic.Int32
	full := make(chan struct{})
	attach(t, n.Mesh, runtime.HostInfo{Boot: "h1", App: "app", Name: "h1", Service: "s"}, func(i *runtime.Invoke) *runtime.Outcome {
		if i.Path == "/inner" {
			return ok("1")
		}
		if arrived.Add(1) == room {
			close(full)
		}
		<-full
		r := &runtime.Request{Kind: kind, Target: service, Method: "POST", Path: "/inner", Body: []byte("[]"), Boot: "h1"}
		if kind == runtime.Call {
			if _, err := n.Call(t.Context(), r); err != nil {
				return ok("error")
			}
			return ok("2")
		}
		id, err := n.Accept(t.Context(), r)
		if err == nil {
			_, err = n.Await(t.Context(), "app", id, "h1")
		}
		if err != nil {
			return ok("error")
		}
		return ok("2")
	})
	ctx := within(t)
	var all sync.WaitGroup
	for range 4 * room {
		all.Go(func() {
			r := call("app", "", "", "outer")
			r.Target = service
			if o, err := n.Call(ctx, r); err != nil || string(o.Body) != "2" {
				t.Errorf("%v, %v", o, err)
			}
		})
	}
	all.Wait()
	r := call("app", "", "", "inner")
	r.Target = service
	if _, err := n.Call(within(t), r); err != nil {
		t.Error(err)
	}
}

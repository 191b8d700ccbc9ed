package engine_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// upgrade-mixed: gateways of two versions under load. While an old one lives
// nothing is written that it cannot read; then the logs are raised; an old one
// that comes back owns nothing, and still passes requests on.
func TestUpgradeMixed(t *testing.T) {
	level := func(n int) func(*engine.Config) { return func(c *engine.Config) { c.Level = n } }
	r := newMeshRig(t, 16)
	a := r.open("a", level(1))
	b := r.open("b", level(2))
	spread(t, a, b)
	attach(t, b, actorHost("h1"), func(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) })
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.Call(within(t), call("app", "A", strconv.Itoa(w*100+i%10), "m")); err != nil {
					t.Errorf("call: %v", err)
					return
				}
			}
		})
	}
	// Both read every log as it is: an old one may take over anything.
	b.Leave(within(t))
	eventually(t, "the old one has all", func() bool { return owners(a)["a"] == 16 })
	if got := r.level(); got != 1 {
		t.Fatalf("the logs are at level %d while an old gateway lives", got)
	}
	c := r.open("c", level(2))
	spread(t, a, c)
	a.Leave(within(t))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	delete(r.nodes, "a")
	eventually(t, "the logs are raised", func() bool { return r.level() == 2 })
	d := r.open("d", level(1))
	for i := range 20 {
		if o, err := d.Call(within(t), call("app", "A", strconv.Itoa(i), "m")); err != nil || o.Status != 200 {
			t.Errorf("through the old gateway: %v %v", o, err)
		}
	}
	eventually(t, "the old one owns nothing", func() bool { by := owners(d); return by["d"] == 0 && by["c"] == 16 })
	close(stop)
	wait.Wait()
}

// level is that of the log that is lowest.
func (r *meshRig) level() int {
	least := 99
	for p, l := range r.logs {
		core := runtime.New(runtime.Config{Mesh: "test", Partition: uint16(p), Partitions: r.parts, Node: "reader", Level: 99})
		l.mu.Lock()
		records := l.records[l.start:]
		l.mu.Unlock()
		for _, b := range records {
			if _, err := core.Fold(b); err != nil {
				r.t.Fatal(err)
			}
		}
		least = min(least, core.LogLevel())
	}
	return least
}

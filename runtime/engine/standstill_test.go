package engine_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A stuckHandler stands at the first line that says something, until it is let go.
type stuckHandler struct {
	slog.Handler
	at   string
	free chan struct{}
	met  *atomic.Bool
}

func (h *stuckHandler) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.at) && h.met.CompareAndSwap(false, true) {
		<-h.free
	}
	return h.Handler.Handle(ctx, r)
}

func (h *stuckHandler) WithAttrs(as []slog.Attr) slog.Handler {
	x := *h
	x.Handler = h.Handler.WithAttrs(as)
	return &x
}

// The loop of a partition stands, at a line of the log or at an append that does not
// listen, while its gateway lives: the gateway says so, others take over, and who waited
// gets the answer there. What runs meanwhile in the other partitions does not notice.
func TestLoopThatStandsStill(t *testing.T) {
	for _, at := range []string{"a line of the log", "an append"} {
		t.Run(at, func(t *testing.T) {
			r := newMeshRig(t, 8)
			free, met := make(chan struct{}), &atomic.Bool{}
			release := sync.OnceFunc(func() { close(free) })
			t.Cleanup(release)
			a := r.open("a", func(c *engine.Config) {
				if at != "an append" {
					c.Logger = slog.New(&stuckHandler{c.Logger.Handler(), "nobody waits for", free, met})
				}
			})
			b := r.open("b")
			spread(t, a, b)
			p, other := uint16(8), uint16(8)
			for q, owner := range a.Owners() {
				if owner == "a" && p == 8 {
					p = uint16(q)
				} else if owner == "a" {
					other = uint16(q)
				}
			}
			before := a.Epochs()
			var runs atomic.Int32
			host := actorHost("h")
			host.Grace = 600_000 // it does not beat
			attach(t, b, host, func(i *runtime.Invoke) *runtime.Outcome {
				if i.Path == "/fails" {
					return &runtime.Outcome{Status: 500}
				}
				if i.Target.ID == r.actorIn(p) {
					runs.Add(1)
				}
				return ok(i.Target.ID)
			})
			if at == "an append" {
				l := r.logs[p]
				l.mu.Lock()
				l.fault = func(node string, before bool) error {
					if node == "a" && before && met.CompareAndSwap(false, true) {
						<-free
					}
					return nil
				}
				l.mu.Unlock()
			}
			x := tellTo(r.actorIn(p))
			x.Path = "/fails"
			go func() { _, _ = a.Accept(t.Context(), x) }()
			eventually(t, "the loop stands", met.Load)
			// Who asks from then on waits, here and there.
			answers := make(chan error, 2)
			for _, m := range []*engine.Mesh{a, b} {
				go func() {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					_, err := m.Call(ctx, call("app", "A", r.actorIn(p), "m"))
					answers <- err
				}()
			}
			eventually(t, "it is said", func() bool { return a.Stats().Down == 1 && a.Healthy(within(t)) != nil })
			if err := a.Healthy(within(t)); err == nil || !strings.Contains(err.Error(), "stands still") {
				t.Errorf("its health: %v", err)
			}
			eventually(t, "the other gateway takes over", func() bool { return b.Owners()[p] == "b" && a.Owners()[p] == "b" })
			for range 2 {
				if err := <-answers; err != nil {
					t.Errorf("who waited: %v", err)
				}
			}
			if n := runs.Load(); n != 2 {
				t.Errorf("2 calls ran %d times", n)
			}
			if now := a.Epochs(); now[other] != before[other] || a.Owners()[other] != "a" {
				t.Error("a partition whose loop goes on has changed hands")
			}
			if n := b.Stats().Down; n != 0 {
				t.Errorf("%d are down at the other gateway", n)
			}
			release()
			eventually(t, "it is well again", func() bool { return a.Stats().Down == 0 && a.Healthy(within(t)) == nil })
			if _, err := a.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
				t.Error(err)
			}
			if a.Owners()[p] != "b" {
				t.Error("it takes back at once what it could not serve")
			}
		})
	}
}

// A gateway whom nobody can replace keeps what stands still, and says so.
func TestLoopThatStandsStillAlone(t *testing.T) {
	r := newMeshRig(t, 2)
	free, met := make(chan struct{}), &atomic.Bool{}
	release := sync.OnceFunc(func() { close(free) })
	t.Cleanup(release)
	a := r.open("a", func(c *engine.Config) {
		c.Logger = slog.New(&stuckHandler{c.Logger.Handler(), "nobody waits for", free, met})
	})
	host := actorHost("h")
	host.Grace = 600_000
	attach(t, a, host, func(*runtime.Invoke) *runtime.Outcome { return &runtime.Outcome{Status: 500} })
	if _, err := a.Accept(within(t), tellTo(r.actorIn(0))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loop stands", met.Load)
	eventually(t, "it is said", func() bool { return a.Stats().Down == 1 })
	before := a.Epochs()
	release()
	eventually(t, "it goes on", func() bool { return a.Stats().Down == 0 && a.Healthy(within(t)) == nil })
	if now := a.Epochs(); now[0] != before[0] || owners(a)["a"] != 2 {
		t.Errorf("%v, before %v", now, before)
	}
}

// A loop that is slow, with more to do than it gets through, is one that goes on.
func TestSlowLoopKeepsItsPartition(t *testing.T) {
	r := newMeshRig(t, 4)
	a, b := r.open("a"), r.open("b")
	spread(t, a, b)
	p := uint16(0)
	for a.Owners()[p] != "a" {
		p++
	}
	before := a.Epochs()[p]
	l := r.logs[p]
	l.mu.Lock()
	l.fault = func(_ string, before bool) error {
		if before {
			time.Sleep(800 * time.Millisecond)
		}
		return nil
	}
	l.mu.Unlock()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		go func() { _, _ = a.Accept(t.Context(), tellTo(r.actorIn(p))) }()
		if a.Stats().Down > 0 {
			t.Fatal("it is taken for one that stands still")
		}
	}
	l.mu.Lock()
	l.fault = nil
	l.mu.Unlock()
	if now := a.Epochs()[p]; now != before || a.Owners()[p] != "a" {
		t.Errorf("it has changed hands: %v of %s, before %v", now, a.Owners()[p], before)
	}
}

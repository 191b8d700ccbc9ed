package engine_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// calls makes one call to an actor of each partition.
func (r *meshRig) calls(t *testing.T, m interface {
	Call(context.Context, *runtime.Request) (*runtime.Outcome, error)
}) {
	t.Helper()
	for p := range uint16(r.parts) {
		if _, err := m.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
			t.Errorf("partition %d: %v", p, err)
		}
	}
}

func echo(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) }

// The host's join leaves a partition out, since the welcome named an old term,
// and the gateway has learned the new one before the host counts as attached.
func TestJoinThatLeavesOneOut(t *testing.T) {
	r := newMeshRig(t, 4)
	a := r.open("a")
	h := &fakeHost{owners: a, info: actorHost("h"), serve: echo}
	if err := a.HostUp(h.info, runtime.JoinAnswer{Epochs: a.Epochs()[:3]}, h); err != nil {
		t.Fatal(err)
	}
	r.calls(t, a)
	h.stop()
}

// What another gateway says of a host that has moved on comes late: a beat over
// the stream that lives puts it right.
func TestLateNoteDoesNotStrandAHost(t *testing.T) {
	r := newMeshRig(t, 4)
	r.lease = 5 * time.Second
	a, b := r.open("a"), r.open("b")
	h := &fakeHost{owners: a, info: actorHost("h"), serve: echo}
	old := &fakeHost{owners: b, info: actorHost("h"), serve: echo}
	if err := a.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	if err := b.HostUp(old.info, runtime.JoinAnswer{Epochs: b.Epochs()}, old); err != nil {
		t.Fatal(err)
	}
	b.LinkDown("h", old)
	for range 5 {
		if _, lost := a.Beat("h"); lost {
			t.Fatal("lost")
		}
	}
	r.calls(t, a)
	h.stop()
}

// A host that was counted lost says something before it reads so.
func TestLostHostIsNoGhost(t *testing.T) {
	r := newMeshRig(t, 4)
	a, b := r.open("a"), r.open("b")
	h := attach(t, a, actorHost("h"), echo)
	for i := range 20 {
		if _, err := a.Call(within(t), call("app", "A", strconv.Itoa(i), "m")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the host is lost", func() bool { return len(a.Hosts(""))+len(b.Hosts("")) == 0 })
	info := h.info
	info.Frozen = true
	a.HostChanged(info)
	if _, err := b.Call(within(t), &runtime.Request{Kind: runtime.Tell, Target: call("app", "A", "1", "m").Target, Method: "POST", Path: "/m"}); err != nil {
		t.Fatal(err) // behind what the note would have said
	}
	if n := len(a.Hosts("")) + len(b.Hosts("")); n != 0 {
		t.Errorf("%d gateways list it", n)
	}
}

// A gateway that begins while the store is away knows nobody: it must not take
// partitions from owners that work.
func TestBeginWithoutTheStore(t *testing.T) {
	r := newMeshRig(t, 4)
	r.lease = 3 * time.Second
	a := r.open("a")
	attach(t, a, actorHost("h"), echo)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				a.Beat("h")
			}
		}
	}()
	r.store.mu.Lock()
	r.store.away = true
	r.store.mu.Unlock()
	before := a.Epochs()
	r.start("b")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r.calls(t, a)
	}
	for p, e := range a.Epochs() {
		if e != before[p] {
			t.Errorf("partition %d went from term %d to %d", p, before[p].Epoch, e.Epoch)
		}
	}
}

// listening notes the gateways that it is told of.
type listening struct {
	*fakeHost
	told chan []string
}

func (h *listening) Send(m runtime.HostMessage) {
	if e, ok := m.(*runtime.Elsewhere); ok {
		h.told <- e.Gateways
		return
	}
	h.fakeHost.Send(m)
}

// Hosts hear at once of a gateway that comes: all that they know may go soon.
func TestHostsHearOfNewGateways(t *testing.T) {
	r := newMeshRig(t, 4)
	a := r.open("a")
	h := &listening{&fakeHost{owners: a, info: actorHost("h"), serve: echo}, make(chan []string, 100)}
	h.link = h
	if err := a.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	r.open("b")
	for {
		select {
		case list := <-h.told:
			if slices.Contains(list, "http://b") {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the host was not told")
		}
	}
}

// A host's condition changes while it joins: the detector would see a race.
func TestChangesWhileJoining(t *testing.T) {
	r := newMeshRig(t, 4)
	a := r.open("a")
	h := attach(t, a, actorHost("h"), echo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			info := h.info
			info.Frozen = i%2 == 0
			a.HostChanged(info)
		}
	}()
	for range 200 {
		h.join(a.Epochs())
	}
	<-done
	r.calls(t, a)
	if len(a.Hosts("app")) != 1 {
		t.Error("the host is gone")
	}
}

// A join names a partition that there is not.
func TestJoinOfNoPartition(t *testing.T) {
	r := newMeshRig(t, 4)
	a := r.open("a")
	h := &fakeHost{owners: a, info: actorHost("h"), serve: echo}
	none := runtime.PartitionEpoch{Partition: 65535, Epoch: 1}
	if err := a.HostUp(h.info, runtime.JoinAnswer{Epochs: append(a.Epochs(), none)}, h); err != nil {
		t.Fatal(err)
	}
	a.Joined("h", nil, []runtime.PartitionEpoch{none}, runtime.JoinAnswer{})
	a.Answered("h", runtime.Answer{Attempt: runtime.Attempt{Partition: 65535}})
	a.Deactivated("h", runtime.Deactivate{Partition: 65535})
	r.calls(t, a)
	h.stop()
}

// An end that is reported is no loss: another line in the log, another counter,
// and both name the component, also when its stream broke before.
func TestEndsAndLossesAreToldApart(t *testing.T) {
	r := newMeshRig(t, 4)
	var lines logLines
	m := r.open("a", func(c *engine.Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) })
	ended, lost := actorHost("ended"), actorHost("lost")
	ended.Name, lost.Name = "one", "two"
	attach(t, m, ended, echo)
	h := attach(t, m, lost, echo)
	m.LinkDown("lost", h)
	m.HostDown("ended", "the process exited")
	eventually(t, "both are gone", func() bool { s := m.Stats(); return s.HostsEnded == 1 && s.HostsLost == 1 })
	for _, want := range []string{
		`level=INFO msg="component ended" component=one app=app boot=ended reason="the process exited"`,
		`level=WARN msg="component lost" component=two app=app boot=lost reason="no sign of life"`,
	} {
		if n := strings.Count(lines.String(), want); n != 1 {
			t.Errorf("%d times %s in\n%s", n, want, lines.String())
		}
	}
}

// logLines is where a logger may write.
type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

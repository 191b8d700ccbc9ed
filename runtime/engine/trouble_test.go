package engine_test

import (
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// actorIn is the id of an actor whose partition is p.
func (r *meshRig) actorIn(p uint16) string {
	for i := 0; ; i++ {
		id := strconv.Itoa(i)
		if runtime.ActorPartition(runtime.Actor{App: "app", Type: "A", ID: id}, r.parts) == p {
			return id
		}
	}
}

// append-lower-offset: the broker has lost the end of a log that it had
// acknowledged. That partition stops with a named error, the others go on.
func TestLostTailStopsThePartition(t *testing.T) {
	r := newMeshRig(t, 4)
	m := r.open("a")
	attach(t, m, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) })
	for p := range uint16(4) {
		if _, err := m.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
			t.Fatal(err)
		}
	}
	l := r.logs[2]
	l.mu.Lock()
	l.records = l.records[:len(l.records)-2]
	l.mu.Unlock()
	_, err := m.Call(within(t), call("app", "A", r.actorIn(2), "m"))
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeUnavailable && e.Code != runtime.CodeDamaged {
		t.Fatalf("a call after the loss: %v", err)
	}
	if err := m.Healthy(within(t)); !errors.As(err, &e) || e.Code != runtime.CodeDamaged {
		t.Fatalf("healthy: %v", err)
	}
	for _, p := range []uint16{0, 1, 3} {
		if _, err := m.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
			t.Errorf("partition %d: %v", p, err)
		}
	}
}

// slow-kafka-partition: one partition's append takes long. Nobody else waits:
// neither calls to other partitions, nor the leases that their owners renew.
func TestSlowPartitionHoldsUpNobody(t *testing.T) {
	r := newMeshRig(t, 4)
	a, b := r.open("a"), r.open("b")
	attach(t, a, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) })
	for p := range uint16(4) {
		if _, err := a.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
			t.Fatal(err)
		}
	}
	release := make(chan struct{})
	l := r.logs[1]
	l.mu.Lock()
	l.fault = func(_ string, before bool) error {
		if before {
			<-release
		}
		return nil
	}
	l.mu.Unlock()
	stuck := make(chan error, 1)
	go func() {
		_, err := b.Call(within(t), call("app", "A", r.actorIn(1), "m"))
		stuck <- err
	}()
	var longest time.Duration
	for end := time.Now().Add(r.lease); time.Now().Before(end); {
		for _, p := range []uint16{0, 2, 3} {
			began := time.Now()
			if _, err := b.Call(within(t), call("app", "A", r.actorIn(p), "m")); err != nil {
				t.Fatal(err)
			}
			longest = max(longest, time.Since(began))
		}
	}
	t.Logf("the longest call of the others took %v", longest)
	silent, lost := a.Beat("h")
	if lost || !slices.Equal(silent, []uint16{1}) {
		t.Errorf("a beat: silent %v, lost %v", silent, lost)
	}
	close(release)
	if err := <-stuck; err != nil {
		t.Errorf("the call that had to wait: %v", err)
	}
}

// membership-flaps: nodes see different members for a while. Nobody claims from
// a living owner, and nobody waits for long.
func TestMembersThatFlap(t *testing.T) {
	r := newMeshRig(t, 16)
	r.lease = 10 * time.Second // the host of this test does not beat
	a, b, c := r.open("a"), r.open("b"), r.open("c")
	spread(t, a, b, c)
	attach(t, a, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome { return ok(i.Target.ID) })
	if _, err := a.Call(within(t), call("app", "A", "0", "m")); err != nil {
		t.Fatal(err)
	}
	epochs := func() (sum uint64) {
		for _, e := range a.Epochs() {
			sum += e.Epoch
		}
		return sum
	}
	before := epochs()
	var longest time.Duration
	for i, end := 0, time.Now().Add(2*time.Second); time.Now().Before(end); i++ {
		// The entry of one of them is missing at times, as with a store that forgets.
		if i%7 == 0 {
			r.members.mu.Lock()
			delete(r.members.list, []string{"a", "b", "c"}[i/7%3])
			r.members.mu.Unlock()
		}
		began := time.Now()
		if _, err := c.Call(within(t), call("app", "A", strconv.Itoa(i%40), "m")); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
		time.Sleep(2 * time.Millisecond)
	}
	moved := epochs() - before
	t.Logf("%d changes of owners, the longest call took %v", moved, longest)
	if moved > 0 {
		t.Errorf("partitions changed hands %d times although all lived", moved)
	}
}

// A record that the log would refuse refuses its request: the term goes on, and
// nobody else notices.
func TestTooLargeForTheLog(t *testing.T) {
	r := newMeshRig(t, 1)
	r.logs[0].setLimit(10_000)
	m := r.open("a")
	attach(t, m, actorHost("h"), echo)
	before := m.Epochs()[0]
	large := call("app", "A", "1", "m")
	large.Body = make([]byte, 20_000)
	var e *runtime.Error
	if _, err := m.Call(within(t), large); !errors.As(err, &e) || e.Code != runtime.CodeTooLarge {
		t.Errorf("a large call: %v", err)
	}
	if _, err := m.Call(within(t), call("app", "A", "1", "m")); err != nil {
		t.Error(err)
	}
	if now := m.Epochs()[0]; now != before {
		t.Errorf("from term %d to %d", before.Epoch, now.Epoch)
	}
}

// A body limit is of the doors: an owner behind another gateway's door takes what the log
// takes, as a request and as a result.
func TestOwnerHasNoBodyLimit(t *testing.T) {
	r := newMeshRig(t, 1)
	r.logs[0].setLimit(12 << 20)
	m := r.open("a")
	attach(t, m, actorHost("h"), echo)
	large := call("app", "A", "1", "m")
	large.Body = make([]byte, 5<<20)
	if o, err := m.Call(within(t), large); err != nil || o.Status != 200 {
		t.Errorf("a call with 5 MiB: %v", err)
	}
}

// So does one whose limit is lowered while the term goes on.
func TestLimitOfTheLogIsLowered(t *testing.T) {
	r := newMeshRig(t, 1)
	r.logs[0].setLimit(100_000)
	m := r.open("a")
	attach(t, m, actorHost("h"), echo)
	before := m.Epochs()[0]
	r.logs[0].setLimit(10_000)
	large := call("app", "A", "1", "m")
	large.Body = make([]byte, 20_000)
	var e *runtime.Error
	if _, err := m.Call(within(t), large); !errors.As(err, &e) || e.Code != runtime.CodeTooLarge {
		t.Errorf("a large call: %v", err)
	}
	if _, err := m.Call(within(t), call("app", "A", "1", "m")); err != nil {
		t.Error(err)
	}
	if now := m.Epochs()[0]; now != before {
		t.Errorf("from term %d to %d", before.Epoch, now.Epoch)
	}
}

// A log whose appends take longer than a second: a host of which nothing is heard
// is counted lost all the same.
func TestLossIsSeenOnASlowLog(t *testing.T) {
	r := newMeshRig(t, 1)
	m := r.open("a")
	attach(t, m, actorHost("h"), nil)
	l := r.logs[0]
	l.mu.Lock()
	l.fault = func(_ string, before bool) error {
		if before {
			time.Sleep(1500 * time.Millisecond)
		}
		return nil
	}
	l.mu.Unlock()
	for i := 0; len(m.Hosts("")) > 0; i++ {
		if i == 20 {
			t.Fatal("30 s after its last sign of life it counts as alive")
		}
		if _, err := m.Call(within(t), tellTo(strconv.Itoa(i))); err != nil { // an append is always under way
			t.Fatal(err)
		}
	}
}

// An append has no answer, then the log is found to be damaged: the first try may
// have landed, so nobody is told that nothing happened.
func TestDamageBehindAnUnknownAppend(t *testing.T) {
	r := newMeshRig(t, 1)
	m := r.open("a")
	if _, err := m.Accept(within(t), tellTo("1")); err != nil { // behind what a term begins with
		t.Fatal(err)
	}
	l := r.logs[0]
	var tries atomic.Int64
	l.mu.Lock()
	l.fault = func(_ string, before bool) error {
		switch {
		case before && tries.Add(1) > 1:
			return runtime.Errorf(runtime.CodeDamaged, "the log has lost records")
		case !before:
			return &runtime.UnknownError{Cause: errors.New("no answer")}
		}
		return nil
	}
	l.mu.Unlock()
	_, err := m.Accept(within(t), tellTo("1"))
	var e *runtime.Error
	if !errors.As(err, &e) || e.Code != runtime.CodeUnknownOutcome {
		t.Fatalf("the caller is told %v", err)
	}
}

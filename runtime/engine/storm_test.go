package engine_test

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// TestMeshStorm lets nodes die, leave, come and lose their streams, appends
// fail or land without an answer, and the store go away, all under load with
// nested calls over partitions. A witness counts: no request runs twice, no
// actor runs two at once, every accepted request ends, every acknowledged write
// is there. KAR_SEED repeats a run; KAR_SOAK makes it longer.
func TestMeshStorm(t *testing.T) {
	seed := time.Now().UnixNano()
	if s := os.Getenv("KAR_SEED"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	length := 4 * time.Second
	if s := os.Getenv("KAR_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	t.Logf("KAR_SEED=%d", seed)
	rng := rand.New(rand.NewSource(seed))
	s := &storm{meshRig: newMeshRig(t, 12), w: witness{runs: map[string]int{}, busy: map[string]string{}}}
	s.lease = 1500 * time.Millisecond
	keep := s.open("n0") // the one that clients and the host speak to
	for i := 1; i < 3; i++ {
		s.open("n" + strconv.Itoa(i))
	}
	s.host = attach(t, keep, actorHost("h"), func(i *runtime.Invoke) *runtime.Outcome { return s.serve(keep, i) })
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 6 {
		clients.Go(func() { s.client(keep, c, stop) })
	}
	next := 3
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Duration(20+rng.Intn(150)) * time.Millisecond) {
		names := s.names()
		victim := names[rng.Intn(len(names))]
		switch what := rng.Intn(8); {
		case what < 2 && len(names) < 4:
			s.open("n" + strconv.Itoa(next))
			next++
		case what == 2 && victim != "n0" && len(names) > 1:
			t.Log("kill", victim)
			s.kill(victim)
		case what == 3 && victim != "n0" && len(names) > 1:
			t.Log("leave", victim)
			m := s.nodes[victim]
			delete(s.nodes, victim)
			m.Leave(within(t))
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		case what == 4 && victim != "n0":
			t.Log("cut", victim)
			s.net.sever("n0", victim, true)
			time.AfterFunc(time.Duration(rng.Intn(300))*time.Millisecond, func() { s.net.sever("n0", victim, false) })
		case what == 5:
			s.flaky(rng.Intn(s.parts), 3)
		case what == 6:
			t.Log("the store goes away")
			s.storeAway(true)
			time.AfterFunc(time.Duration(rng.Intn(400))*time.Millisecond, func() { s.storeAway(false) })
		case what == 7:
			s.wipe(rng.Intn(s.parts))
		}
	}
	s.storeAway(false)
	close(stop)
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("requests did not end: %s", s.describe(keep))
	}
	s.check(keep)
}

type storm struct {
	*meshRig
	host  *fakeHost
	w     witness
	calls atomic.Int64
	wrote sync.Map // actor id → last acknowledged value
}

type witness struct {
	mu   sync.Mutex
	runs map[string]int
	busy map[string]string
	bad  []string
}

func (s *storm) names() (list []string) {
	for i := range 1000 {
		if n := "n" + strconv.Itoa(i); s.nodes[n] != nil {
			list = append(list, n)
		}
	}
	return list
}

func (s *storm) storeAway(away bool) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.away = away
}

// wipe empties the store of a partition: the log reaches back to its beginning.
func (s *storm) wipe(p int) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.entries[p], s.store.applied[p] = map[string][]byte{}, 0
}

// flaky lets some appends of a partition end without an answer, landed or not.
func (s *storm) flaky(p, n int) {
	var left atomic.Int32
	left.Store(int32(n))
	l := s.logs[p]
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.fault
	l.fault = func(node string, pre bool) error {
		if before != nil {
			if err := before(node, pre); err != nil {
				return err
			}
		}
		if k := left.Load(); k > 0 && pre == (k%2 == 0) && left.CompareAndSwap(k, k-1) {
			return &runtime.UnknownError{Cause: errors.New("no answer")}
		}
		return nil
	}
}

// serve is the app: method "m" of actor i calls method "n" of another one.
func (s *storm) serve(m *engine.Mesh, i *runtime.Invoke) *runtime.Outcome {
	id, actor := i.Header.Get("Kar-Request-Id"), i.Target.ID
	s.w.mu.Lock()
	s.w.runs[id+"/"+strconv.Itoa(int(i.Attempt.Step))]++
	if other := s.w.busy[actor]; other != "" {
		s.w.bad = append(s.w.bad, fmt.Sprintf("actor %s runs %s while %s runs", actor, id, other))
	}
	s.w.busy[actor] = id
	s.w.mu.Unlock()
	defer func() {
		s.w.mu.Lock()
		delete(s.w.busy, actor)
		s.w.mu.Unlock()
	}()
	if i.Path == "/m" {
		r := call("app", "A", "leaf"+actor, "n")
		r.Session, r.Boot = i.Session, "h"
		o, err := m.Call(s.t.Context(), r)
		if err != nil || o.Status != 200 {
			return &runtime.Outcome{Status: 500, Body: []byte(fmt.Sprint("nested: ", o, err))}
		}
	}
	return ok(id)
}

// client calls and writes, each actor alone, until told to stop.
func (s *storm) client(m *engine.Mesh, c int, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		id := fmt.Sprintf("%d-%d", c, i%7)
		o, err := m.Call(s.t.Context(), call("app", "A", id, "m"))
		if err != nil || o.Status != 200 {
			if !refused(err) {
				s.t.Errorf("call of %s: %v %v", id, o, err)
			}
			continue
		}
		s.calls.Add(1)
		value := strconv.Itoa(i)
		_, err = m.State(s.t.Context(), runtime.StateOp{Actor: runtime.Actor{App: "app", Type: "A", ID: id}, Verb: runtime.StateSet, Key: "k", Value: []byte(value)})
		switch {
		case err == nil:
			s.wrote.Store(id, value)
		case !refused(err):
			s.t.Errorf("write to %s: %v", id, err)
		}
	}
}

// refused: certainly not accepted.
func refused(err error) bool {
	var e *runtime.Error
	return errors.As(err, &e) && (e.Code == runtime.CodeUnavailable || e.Code == runtime.CodeStoreAway)
}

func (s *storm) check(m *engine.Mesh) {
	t := s.t
	s.w.mu.Lock()
	for id, n := range s.w.runs {
		if n != 1 {
			t.Errorf("request %s ran %d times", id, n)
		}
	}
	for _, b := range s.w.bad {
		t.Error(b)
	}
	s.w.mu.Unlock()
	n := 0
	s.wrote.Range(func(id, value any) bool {
		n++
		a := runtime.Actor{App: "app", Type: "A", ID: id.(string)}
		var got runtime.StateResult
		eventually(t, "the state of "+id.(string)+" can be read", func() bool {
			var err error
			got, err = m.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"})
			return err == nil
		})
		if string(got.Value) != value.(string) {
			t.Errorf("actor %s has %q, acknowledged was %v", id, got.Value, value)
		}
		return true
	})
	t.Logf("%d calls, %d actors", s.calls.Load(), n)
	if s.calls.Load() == 0 {
		t.Error("nothing was called")
	}
}

func (s *storm) describe(m *engine.Mesh) string {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var b strings.Builder
	fmt.Fprintln(&b, "busy", s.w.busy, "owners", m.Owners(), "stats", m.Stats())
	return b.String()
}

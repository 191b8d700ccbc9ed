package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// A fakeHost answers invocations with a function, on goroutines of its own.
type fakeHost struct {
	link   runtime.Link // nil: itself
	owners runtime.Owners
	info   runtime.HostInfo
	serve  func(*runtime.Invoke) *runtime.Outcome

	mu       sync.Mutex
	taken    int
	epochs   map[uint16]uint64
	running  map[runtime.Attempt]bool
	finished map[runtime.Attempt]*runtime.Outcome
	wg       sync.WaitGroup
	over     bool // nothing begins any more
}

// stop lets nothing begin and waits for what runs.
func (h *fakeHost) stop() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.wg.Wait()
}

// begin is false for an attempt that was begun before, or that a deposed owner sends.
func (h *fakeHost) begin(m *runtime.Invoke) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil {
		h.running, h.finished = map[runtime.Attempt]bool{}, map[runtime.Attempt]*runtime.Outcome{}
	}
	if h.over || h.running[m.Attempt] || h.finished[m.Attempt] != nil || m.Epoch < h.epochs[m.Attempt.Partition] {
		return false
	}
	h.running[m.Attempt] = true
	h.wg.Add(1)
	return true
}

func (h *fakeHost) end(a runtime.Attempt, o *runtime.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.running, a)
	h.finished[a] = o
	h.owners.Answered(h.info.Boot, runtime.Answer{Attempt: a, Outcome: o})
}

// join answers what it runs and has finished in some partitions.
func (h *fakeHost) join(epochs []runtime.PartitionEpoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epochs == nil {
		h.epochs = map[uint16]uint64{}
	}
	j := runtime.JoinAnswer{Epochs: epochs}
	for _, e := range epochs {
		h.epochs[e.Partition] = max(h.epochs[e.Partition], e.Epoch)
		for a, o := range h.finished {
			if e.Partition == a.Partition {
				h.owners.Answered(h.info.Boot, runtime.Answer{Attempt: a, Outcome: o})
				j.Running = append(j.Running, a)
			}
		}
		for a := range h.running {
			if e.Partition == a.Partition {
				j.Running = append(j.Running, a)
			}
		}
	}
	link := h.link
	if link == nil {
		link = h
	}
	h.owners.Joined(h.info.Boot, link, epochs, j)
}

func (h *fakeHost) Send(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Invoke:
		if h.serve == nil {
			return // takes work and never answers
		}
		if !h.begin(m) {
			return
		}
		go func() {
			defer h.wg.Done()
			if o := h.serve(m); o != nil {
				h.end(m.Attempt, o)
			}
		}()
	case *runtime.Deactivate:
		h.owners.Deactivated(h.info.Boot, *m)
	case *runtime.JoinAsk:
		h.join(m.Epochs)
	case *runtime.Taken:
		h.mu.Lock()
		h.taken += len(m.Attempts)
		for _, a := range m.Attempts {
			delete(h.finished, a)
		}
		h.mu.Unlock()
	}
}

func attach(t *testing.T, m *engine.Mesh, info runtime.HostInfo, serve func(*runtime.Invoke) *runtime.Outcome) *fakeHost {
	t.Helper()
	h := &fakeHost{owners: m, info: info, serve: serve}
	if err := m.HostUp(info, runtime.JoinAnswer{}, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

func ok(body string) *runtime.Outcome {
	return &runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(body)}
}

type node struct {
	*engine.Mesh
	disk *embedded.Disk
}

func open(t *testing.T, dir string, partitions int, tune ...func(*engine.Config)) *node {
	t.Helper()
	d, err := embedded.Open(dir, embedded.Options{Mesh: "test", Partitions: partitions, SegmentBytes: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	cfg := engine.Config{Partitions: partitions, Mesh: "test", Logs: d.Log, Store: d.Store(), Topics: d.Topics()}
	for _, f := range tune {
		f(&cfg)
	}
	m, err := engine.Open(t.Context(), cfg)
	if err != nil {
		_ = d.Close()
		t.Fatal(err)
	}
	n := &node{m, d}
	t.Cleanup(n.close)
	return n
}

func (n *node) close() {
	_ = n.Mesh.Close()
	_ = n.disk.Close()
}

func call(app, typ, id, method string) *runtime.Request {
	return &runtime.Request{Target: runtime.Target{App: app, Type: typ, ID: id}, Method: "POST", Path: "/" + method, Body: []byte("[]")}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCallStateAndReopen(t *testing.T) {
	for _, parts := range []int{1, 4} {
		t.Run(fmt.Sprint(parts), func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir, parts)
			attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, func(in *runtime.Invoke) *runtime.Outcome {
				return ok(`{"value":"` + in.Target.ID + `"}`)
			})
			for i := range 20 {
				o, err := n.Call(within(t), call("app", "A", fmt.Sprint(i), "m"))
				if err != nil || string(o.Body) != fmt.Sprintf(`{"value":"%d"}`, i) {
					t.Fatalf("call %d: %v %v", i, o, err)
				}
			}
			a := runtime.Actor{App: "app", Type: "A", ID: "x/ü"}
			r, err := n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte("1")})
			if err != nil || !r.Created {
				t.Fatalf("set: %+v %v", r, err)
			}
			r, err = n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte("2")})
			if err != nil || r.Created {
				t.Fatalf("set again: %+v %v", r, err)
			}
			n.close()
			n = open(t, dir, parts)
			r, err = n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"})
			if err != nil || string(r.Value) != "2" {
				t.Fatalf("get after reopen: %+v %v", r, err)
			}
		})
	}
}

func TestPromiseIsAwaitedManyTimesAndAfterReopen(t *testing.T) {
	dir := t.TempDir()
	n := open(t, dir, 4)
	serve := func(*runtime.Invoke) *runtime.Outcome { return ok(`{"value":7}`) }
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, serve)
	r := call("app", "A", "1", "m")
	r.Kind = runtime.Promise
	id, err := n.Accept(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if o, err := n.Await(within(t), "app", id, ""); err != nil || string(o.Body) != `{"value":7}` {
			t.Fatalf("await: %v %v", o, err)
		}
	}
	n.close()
	n = open(t, dir, 4)
	if o, err := n.Await(within(t), "app", id, ""); err != nil || string(o.Body) != `{"value":7}` {
		t.Fatalf("await after reopen: %v %v", o, err)
	}
}

func TestTailCallsAcrossPartitions(t *testing.T) {
	n := open(t, t.TempDir(), 4)
	var mu sync.Mutex
	var ran []string
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}, Service: "s"}, func(in *runtime.Invoke) *runtime.Outcome {
		mu.Lock()
		ran = append(ran, in.Target.ID+in.Path)
		mu.Unlock()
		switch {
		case in.Target.Service != "":
			return &runtime.Outcome{Status: 200, Body: []byte(`"served"`)}
		case in.Target.ID == "9":
			return ok(`{"tailCall":true,"value":{"serviceName":"s","path":"/end","method":"POST","payload":"{}"}}`)
		}
		next := in.Target.ID[0] + 1
		return ok(`{"tailCall":true,"value":{"actorType":"A","actorId":"` + string(next) + `","path":"/m","payload":"[1]"}}`)
	})
	o, err := n.Call(within(t), call("app", "A", "1", "m"))
	if err != nil || string(o.Body) != `{"value":"served"}` {
		t.Fatalf("%v %v", o, err)
	}
	if got := strings.Join(ran, " "); got != "1/m 2/m 3/m 4/m 5/m 6/m 7/m 8/m 9/m /end" {
		t.Fatal(got)
	}
}

func TestRetryAfterHostDown(t *testing.T) {
	n := open(t, t.TempDir(), 1)
	started := make(chan struct{}, 1)
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, func(in *runtime.Invoke) *runtime.Outcome {
		started <- struct{}{}
		return nil
	})
	done := make(chan *runtime.Outcome, 1)
	go func() {
		o, _ := n.Call(within(t), call("app", "A", "1", "m"))
		done <- o
	}()
	<-started
	n.HostDown("b1", "exited")
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b2", App: "app", Actors: []string{"A"}}, func(in *runtime.Invoke) *runtime.Outcome {
		return ok(`{"value":` + in.Header.Get("Kar-Attempt") + `}`)
	})
	if o := <-done; o == nil || string(o.Body) != `{"value":2}` {
		t.Fatalf("%+v", o)
	}
}

func TestTrimKeepsWhatIsLive(t *testing.T) {
	dir := t.TempDir()
	small := func(c *engine.Config) { c.TrimAt = 64 << 10 }
	n := open(t, dir, 1, small)
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}}, func(in *runtime.Invoke) *runtime.Outcome {
		return ok(`{"value":"` + strings.Repeat("x", 500) + `"}`)
	})
	parked := call("app", "Z", "1", "m")
	parked.Kind = runtime.Tell
	if _, err := n.Accept(within(t), parked); err != nil {
		t.Fatal(err)
	}
	a := runtime.Actor{App: "app", Type: "A", ID: "s"}
	if _, err := n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	var last runtime.ID
	for i := range 2000 {
		r := call("app", "A", fmt.Sprint(i%10), "m")
		if _, err := n.Call(within(t), r); err != nil {
			t.Fatal(err)
		}
		last = r.ID
		n.Release(r.Target.App, r.ID)
	}
	st := n.Stats()
	if st.Trims == 0 || st.LogBytes > 512<<10 {
		t.Fatalf("not trimmed: %+v", st)
	}
	n.close()
	n = open(t, dir, 1, small)
	if r, err := n.State(within(t), runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k"}); err != nil || string(r.Value) != "v" {
		t.Fatalf("state after trim: %+v %v", r, err)
	}
	again := call("app", "A", "1", "m")
	again.ID = last
	// Nobody offers A now: an answer means that it was not run again.
	if o, err := n.Call(within(t), again); err != nil && !strings.Contains(err.Error(), "outcome_not_kept") || err == nil && o.Status != 200 {
		t.Fatalf("an ended id: %v %v", o, err)
	}
	got := make(chan string, 1)
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b2", App: "app", Actors: []string{"Z"}}, func(in *runtime.Invoke) *runtime.Outcome {
		got <- in.Path
		return ok(`{"value":1}`)
	})
	select {
	case p := <-got:
		if p != "/m" {
			t.Fatal(p)
		}
	case <-within(t).Done():
		t.Fatal("the parked tell was lost by trimming")
	}
}

// A host gets no more than it may have at a time, everything gets its turn,
// and nested calls pass a full host.
func TestFullHost(t *testing.T) {
	n := open(t, t.TempDir(), 1, func(c *engine.Config) { c.HostLimit = 3 })
	var mu sync.Mutex
	running, most := 0, 0
	var m *engine.Mesh = n.Mesh
	attach(t, m, runtime.HostInfo{Boot: "b1", App: "app", Actors: []string{"A"}, Service: "s"}, func(in *runtime.Invoke) *runtime.Outcome {
		mu.Lock()
		running++
		if in.Session != "" && in.Path == "/m" && running > most {
			most = running
		}
		mu.Unlock()
		defer func() { mu.Lock(); running--; mu.Unlock() }()
		if in.Path == "/m" {
			nested := call("app", "A", "inner", "n")
			nested.Session = in.Session
			if _, err := m.Call(context.Background(), nested); err != nil {
				return ok(`{"error":true,"message":"nested"}`)
			}
		}
		return ok(`{"value":1}`)
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if o, err := m.Call(within(t), call("app", "A", fmt.Sprint(i), "m")); err != nil || string(o.Body) != `{"value":1}` {
				t.Errorf("call %d: %v %v", i, o, err)
			}
			r := &runtime.Request{Target: runtime.Target{App: "app", Service: "s"}, Method: "GET", Path: "/x"}
			if _, err := m.Call(within(t), r); err != nil {
				t.Errorf("service %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if most > 6 {
		t.Fatalf("%d at once", most)
	}
}

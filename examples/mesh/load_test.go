package mesh_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What must become of a request.
type fate int

const (
	once       fate = iota // it was accepted
	atMostOnce             // nobody can know
	never                  // it was refused
)

// A load is some clients that work all the time, each one request after the
// other: actor calls with and without state, tells, service calls.
type load struct {
	m     *mesh
	w     *witness
	o     loadOptions
	stop  chan struct{}
	wg    sync.WaitGroup
	flows []*flow

	mu      sync.Mutex
	fates   map[string]fate // by key
	adds    map[string]int  // accepted requests that add one, by actor
	refused atomic.Int64    // answers 503
	unknown atomic.Int64    // answers 504, and connections that broke
}

type loadOptions struct {
	name    string // tells apart the loads of one test
	clients int
	pause   time.Duration // of a client between two requests; 0 is 20 ms
	ms      int           // how long a run lasts
	// via are addresses in place of the gateways.
	via []string
	// keyless requests carry no Idempotency-Key: a refusal is final.
	keyless bool
	// kinds of clients, in turn; all when empty.
	kinds []string
	// patience is how long one request may take with all its repeats; 0 is 60 s.
	patience time.Duration
	// try is how long a client waits before it repeats a request at another
	// gateway; 0 is patience.
	try time.Duration
	// attempts may be more than one: the test hurts components.
	attempts bool
}

// A flow is one client.
type flow struct {
	l      *load
	n      int
	kind   string // add, touch, tell, work
	actor  string
	client *http.Client
	way    int // which of the gateways

	mu    sync.Mutex
	done  []time.Time // of completions
	begun time.Time   // of the request under way
	last  string      // what the last try gave
}

func (m *mesh) load(w *witness, o loadOptions) *load {
	m.t.Helper()
	if o.pause == 0 {
		o.pause = 20 * time.Millisecond
	}
	if o.patience == 0 {
		o.patience = 60 * time.Second
	}
	if o.try == 0 {
		o.try = o.patience
	}
	l := &load{m: m, w: w, o: o, stop: make(chan struct{}), fates: map[string]fate{}, adds: map[string]int{}}
	if o.kinds == nil {
		o.kinds = []string{"add", "touch", "tell", "work"}
	}
	for i := range o.clients {
		kind := o.kinds[i%len(o.kinds)]
		f := &flow{
			l: l, n: i, kind: kind, actor: fmt.Sprintf("%s%s%d", o.name, kind, i), way: i,
			client: &http.Client{Timeout: o.try, Transport: &http.Transport{MaxIdleConnsPerHost: 1}},
		}
		l.flows = append(l.flows, f)
		l.wg.Go(f.run)
	}
	m.t.Cleanup(l.end)
	return l
}

func (f *flow) run() {
	defer f.client.CloseIdleConnections()
	tick := time.NewTicker(f.l.o.pause)
	defer tick.Stop()
	for n := 0; ; n++ {
		f.mu.Lock()
		f.begun = time.Now()
		f.mu.Unlock()
		if f.request(fmt.Sprintf("%s%d-%d", f.l.o.name, f.n, n)) {
			f.mu.Lock()
			f.done = append(f.done, time.Now())
			f.mu.Unlock()
		}
		select {
		case <-f.l.stop:
			return
		case <-tick.C:
		}
	}
}

// request brings one request to its end, repeating it under its key.
func (f *flow) request(key string) (completed bool) {
	l, t := f.l, f.l.m.t
	path, header := "/actor/T/"+f.actor+"/call/"+f.kind, map[string]string{"Content-Type": "application/kar+json"}
	want := `{"value":"` + key + `"}`
	switch f.kind {
	case "tell":
		path, header["Pragma"], want = "/actor/T/"+f.actor+"/call/touch", "async", "OK"
	case "work":
		path, want = "/service/s/call/work", key
	}
	if !l.o.keyless {
		header["Idempotency-Key"] = key
	}
	body := fmt.Sprintf("[%q,%d]", key, l.o.ms)
	for end := time.Now().Add(l.o.patience); ; {
		ways := l.o.via
		if ways == nil {
			for _, url := range l.m.urls() {
				ways = append(ways, url+"/apps/a")
			}
		}
		status, head, answer, err := send(f.client, http.MethodPost, ways[f.way%len(ways)]+"/kar/v1"+path, header, body)
		f.mu.Lock()
		f.last = fmt.Sprintf("%s at %s: %d %.200s %v", key, time.Now().Format("05.000"), status, answer, err)
		f.mu.Unlock()
		switch {
		case err == nil && (status == http.StatusOK || status == http.StatusAccepted):
			if strings.TrimSpace(answer) != want {
				t.Errorf("request %s: answer %q, want %q", key, answer, want)
			}
			l.note(f, key, once)
			return true
		case err == nil && status == http.StatusServiceUnavailable:
			if l.refused.Add(1) == 1 {
				t.Logf("the first 503, of request %s: %s %.300s", key, head.Get("Kar-Error"), strings.TrimSpace(answer))
			}
			if head.Get("Retry-After") == "" {
				t.Errorf("request %s: 503 without Retry-After: %s", key, answer)
			}
			if l.o.keyless {
				l.note(f, key, never)
				f.way++
				return false
			}
		case err != nil || status == http.StatusGatewayTimeout:
			l.unknown.Add(1)
			if l.o.keyless {
				l.note(f, key, atMostOnce)
				f.way++
				return false
			}
		default:
			t.Errorf("request %s: %d %s %s", key, status, head.Get("Kar-Error"), answer)
			l.note(f, key, atMostOnce)
			return false
		}
		if l.aborted() {
			return false
		}
		if time.Now().After(end) {
			t.Errorf("request %s: no outcome for %s: %d %s %v", key, l.o.patience, status, answer, err)
			l.note(f, key, atMostOnce)
			return false
		}
		f.way++
		time.Sleep(20 * time.Millisecond) // before it is repeated
	}
}

func (l *load) note(f *flow, key string, x fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[key] = x
	if x == once && f.kind == "add" {
		l.adds[f.actor]++
	}
}

// end stops the clients; requests under way are brought to their end.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

// aborted: the test has failed, and nobody waits for what is under way.
func (l *load) aborted() bool {
	select {
	case <-l.stop:
		return l.m.t.Failed()
	default:
		return false
	}
}

func (l *load) completed() (n int) {
	for _, f := range l.flows {
		f.mu.Lock()
		n += len(f.done)
		f.mu.Unlock()
	}
	return n
}

// progress waits until every client has completed some more requests.
func (l *load) progress(what string, more int) {
	l.m.t.Helper()
	l.progressOf(len(l.flows), what, more)
}

// progressFor is progress where everything is slow.
func (l *load) progressFor(limit time.Duration, what string, more int) {
	l.m.t.Helper()
	l.advance(limit, len(l.flows), what, more)
}

// progressOf is progress of so many clients at least.
func (l *load) progressOf(clients int, what string, more int) {
	l.m.t.Helper()
	l.advance(45*time.Second, clients, what, more)
}

func (l *load) advance(limit time.Duration, clients int, what string, more int) {
	l.m.t.Helper()
	begun := make([]int, len(l.flows))
	for i, f := range l.flows {
		begun[i] = f.count()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		behind := slices.DeleteFunc(slices.Clone(l.flows), func(f *flow) bool { return f.count() >= begun[f.n]+more })
		if len(l.flows)-len(behind) >= clients {
			return
		}
		if time.Now().After(end) {
			for _, f := range behind {
				l.m.t.Log(f.stuck())
			}
			l.m.t.Fatalf("%d of %d clients do not go on: %s", len(behind), len(l.flows), what)
		}
	}
}

// stuck says what a client waits for.
func (f *flow) stuck() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("client %d (%s %s): %d completed, in a request since %s (now %s), last try: %s", f.n, f.kind, f.actor, len(f.done),
		f.begun.Format("05.000"), time.Now().Format("05.000"), f.last)
}

func (f *flow) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.done)
}

// gap is the longest time without a completion that began, or went on, in a span of time.
func (f *flow) gap(from, to time.Time) (longest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := from
	for _, d := range append(f.done[:len(f.done):len(f.done)], to) {
		if d.After(to) {
			d = to
		}
		if d.After(last) {
			longest = max(longest, d.Sub(last))
			last = d
		}
	}
	return longest
}

// gaps logs the longest waits of all clients in a span of time, and returns the longest.
func (l *load) gaps(t *testing.T, what string, from, to time.Time) time.Duration {
	t.Helper()
	var all []time.Duration
	for _, f := range l.flows {
		all = append(all, f.gap(from, to))
	}
	slices.Sort(all)
	var text []string
	for _, d := range all {
		text = append(text, strconv.Itoa(int(d.Milliseconds())))
	}
	t.Logf("GAPS %s%s: longest time without a completion, ms, by client: %s", l.o.name, what, strings.Join(text, " "))
	return all[len(all)-1]
}

// verify is the judgement at the end of a test.
func (l *load) verify() {
	t := l.m.t
	t.Helper()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	// Tells are accepted faster than they run where links are slow; so what counts is
	// whether those that are left become fewer.
	left, one := l.missing()
	if left > 0 {
		t.Logf("%d tells that were accepted are still to run", left)
	}
	for end := time.Now().Add(30 * time.Second); left > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		was := left
		if left, one = l.missing(); left < was {
			end = time.Now().Add(30 * time.Second)
		}
	}
	if left > 0 {
		t.Errorf("accepted, and never run: %s, and %d others", one, left-1)
	}
	for key, x := range l.fates {
		switch runs := l.w.of(key); {
		case runs > 1 && !l.o.attempts:
			t.Errorf("request %s was run %d times", key, runs)
		case runs > 0 && x == never:
			t.Errorf("request %s was refused with 503, and run", key)
		}
	}
	for _, o := range l.w.seen() {
		t.Error("overlap: " + o)
	}
	for actor, n := range l.adds {
		got := l.number(actor)
		l.w.mu.Lock()
		begun := l.w.accounts["T/"+actor]
		l.w.mu.Unlock()
		if got < n || got > begun {
			t.Errorf("the state of actor %s is %d, after %d answered requests and %d runs", actor, got, n, begun)
		}
	}
	t.Logf("%d requests completed, %d runs, %d answers 503, %d unknown", l.completed(), l.w.total(), l.refused.Load(), l.unknown.Load())
	if l.completed() < 10*len(l.flows) {
		t.Errorf("only %d requests: nothing was tested", l.completed())
	}
}

func (l *load) missing() (n int, one string) {
	for key, x := range l.fates {
		if x == once && l.w.of(key) == 0 {
			n, one = n+1, key
		}
	}
	return n, one
}

// number is the state of an actor, as any gateway says.
func (l *load) number(actor string) (n int) {
	l.m.t.Helper()
	status, text := 0, ""
	for i, end := 0, time.Now().Add(20*time.Second); ; i++ {
		urls := l.m.urls()
		var err error
		status, text, err = ask(http.MethodGet, urls[i%len(urls)]+"/apps/a/kar/v1/actor/T/"+actor+"/state/n")
		if err == nil && status == http.StatusOK || time.Now().After(end) {
			break
		}
		time.Sleep(50 * time.Millisecond) // the store may still be on its way back
	}
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		l.m.t.Errorf("the state of actor %s: %d %s", actor, status, text)
	}
	return n
}

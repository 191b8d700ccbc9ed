package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A judge sees what the apps of a world run, and what clients are told, and knows what
// the promises say of it.
type judge struct {
	w       *world
	clients sync.WaitGroup

	mu       sync.Mutex
	requests map[runtime.ID]*simRequest
	busy     map[runtime.Actor]map[*simRun]bool
	active   map[runtime.Actor]map[*simHost]bool
	runsOf   map[*simHost]map[*simRun]bool
	states   map[runtime.Actor]*simState
	lastTold map[string]int
	keys     map[string]runtime.ID // whose request has begun
	seen     atomic.Int32          // faults of a world with a planted bug
	counts   simCounts
}

type simCounts struct{ requests, runs, retries, hosts int }

func (c *simCounts) add(x simCounts) {
	c.requests += x.requests
	c.runs += x.runs
	c.retries += x.retries
	c.hosts += x.hosts
}

// A simRequest is what the judge knows of a request.
type simRequest struct {
	runs      []*simRun
	accepted  bool
	told      *runtime.Outcome // the outcome that a caller has
	parent    *simRun
	open      bool // a child whose caller waits
	client    string
	number    int // of those of one client to one actor
	key       string
	limited   bool // its caller may be told that it was too late
	refused   bool // certainly not accepted, says the answer
	withdrawn bool
	since     time.Time // when that was told; what was started before may begin for a while
	unwanted  bool      // it runs, and is not repeated when that does not complete
}

// A simRun is one attempt that an app has begun.
type simRun struct {
	host      *simHost
	m         *runtime.Invoke
	flow      string
	completed bool
	taken     bool
	dead      bool // with its host
	outcome   *runtime.Outcome
	children  []runtime.ID
}

func (r *simRun) token() string {
	a := r.m.Attempt
	return fmt.Sprintf("%s.%d.%d", a.ID, a.Step, a.Number)
}

func (r *simRun) String() string {
	return fmt.Sprintf("%s of %s%s on %s%s", r.token(), r.m.Target.ID, r.m.Path, r.host.boot, map[bool]string{true: " (completed)"}[r.completed])
}

// goes tells whether its code can go on.
func (r *simRun) goes() bool { return !r.completed && !r.dead && r.host.runs() }

type simState struct {
	value   string
	pending map[string]bool // that may have been written, or be
}

func newJudge(w *world) *judge {
	return &judge{
		w: w, requests: map[runtime.ID]*simRequest{}, busy: map[runtime.Actor]map[*simRun]bool{}, active: map[runtime.Actor]map[*simHost]bool{},
		runsOf: map[*simHost]map[*simRun]bool{}, states: map[runtime.Actor]*simState{}, lastTold: map[string]int{},
		keys: map[string]runtime.ID{},
	}
}

// fault is a promise that was broken. Of a world with a planted bug it is what was wanted.
func (j *judge) fault(format string, args ...any) {
	j.w.trace.say("FAULT "+format, args...)
	if j.w.bug != "" {
		j.seen.Add(1)
		return
	}
	j.w.t.Errorf("%s "+format, append([]any{time.Since(j.w.trace.began).Round(time.Millisecond)}, args...)...)
}

func (j *judge) of(id runtime.ID) *simRequest {
	q := j.requests[id]
	if q == nil {
		q = &simRequest{}
		j.requests[id] = q
		j.counts.requests++
	}
	return q
}

func (j *judge) wanted(id runtime.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of(id)
}

func (j *judge) accepted(id runtime.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of(id).accepted = true
}

func (j *judge) ordered(id runtime.ID, client string, number int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.of(id)
	q.client, q.number = client, number
}

func (j *judge) child(id runtime.ID, parent *simRun) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.of(id)
	q.parent, q.open = parent, true
	parent.children = append(parent.children, id)
}

func (j *judge) childAnswered(id runtime.ID, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.of(id).open = false
	}
}

func (j *judge) limited(id runtime.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of(id).limited = true
}

func (j *judge) refused(id runtime.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.of(id)
	if q.refused = true; len(q.runs) > 0 {
		j.fault("%s is refused, and %s has begun", id, q.runs[0])
	}
}

func (j *judge) keyed(id runtime.ID, key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of(id).key = key
}

// same judges whose outcome a caller under a key is told.
func (j *judge) same(key string, id runtime.ID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if first := j.keys[key]; first != id {
		j.fault("under %s a caller is told the outcome of %s, and %s has run", key, id, first)
	}
}

// cancelled judges the answer to a withdrawal; one that was asked for again finds it completed.
func (j *judge) cancelled(id runtime.ID, how string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.of(id)
	for _, r := range q.runs {
		if how == "cancelled" && r.goes() {
			j.fault("%s was cancelled, and %s runs", id, r)
		}
	}
	switch {
	case how == "cancelled", how == "completed" && len(q.runs) == 0: // or one that was interrupted
		q.withdrawn = true
	default:
		q.unwanted = true
	}
}

// begin judges the begin of an attempt.
func (j *judge) begin(h *simHost, m *runtime.Invoke) *simRun {
	flow, _, _ := strings.Cut(m.Session, ":")
	r := &simRun{host: h, m: m, flow: flow}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.w.trace.say("%s begins", r)
	j.counts.runs++
	q := j.of(m.Attempt.ID)
	if q.told != nil {
		j.fault("%s begins, and the caller has its outcome", r)
	}
	if q.refused {
		j.fault("%s begins, and was refused", r)
	}
	if q.withdrawn && (q.since.IsZero() || h.behind(q.since) > 20*time.Second) {
		j.fault("%s begins, and it was cancelled", r)
	}
	if q.key != "" {
		if first, known := j.keys[q.key]; known && first != m.Attempt.ID {
			j.fault("%s begins, and under its key %s has begun", r, first)
		}
		j.keys[q.key] = m.Attempt.ID
	}
	if len(q.runs) > 0 {
		j.counts.retries++
	}
	for _, x := range q.runs {
		switch {
		case x.m.Attempt.Step > m.Attempt.Step:
			j.fault("%s begins behind %s", r, x)
		case x.m.Attempt.Step < m.Attempt.Step && !x.completed && x.goes():
			j.fault("%s begins while %s runs", r, x)
		case x.m.Attempt.Step < m.Attempt.Step:
		case x.taken:
			j.fault("%s begins, and %s had completed and was taken", r, x)
		case x.completed && x.host.answers(m.Attempt.Partition):
			j.fault("%s begins, and %s has completed on a host that lives", r, x)
		case x.goes():
			j.fault("%s begins while %s runs", r, x)
		}
		if x.m.Attempt.Step == m.Attempt.Step {
			for _, id := range x.children {
				for _, c := range j.of(id).runs {
					if c.goes() {
						j.fault("%s begins while %s runs, which %s has called", r, c, x)
					}
				}
			}
		}
	}
	if q.number > 0 && len(q.runs) == 0 {
		if last := j.lastTold[q.client]; last >= q.number {
			j.fault("%s is number %d of %s and begins behind number %d", r, q.number, q.client, last)
		}
		j.lastTold[q.client] = q.number
	}
	if p := q.parent; p != nil {
		for _, x := range j.of(p.m.Attempt.ID).runs {
			if x != p && x.m.Attempt.Step == p.m.Attempt.Step && x.m.Attempt.Number > p.m.Attempt.Number {
				j.fault("%s begins, which %s has called, and %s has begun since", r, p, x)
			}
		}
	}
	if m.Target.IsActor() {
		a := m.Target.Actor()
		for x := range j.busy[a] {
			if x.flow != r.flow && x.goes() {
				j.fault("%s begins while %s of another flow runs on the actor", r, x)
			}
		}
		if j.busy[a] == nil {
			j.busy[a] = map[*simRun]bool{}
		}
		j.busy[a][r] = true
	}
	if j.runsOf[h] == nil {
		j.runsOf[h] = map[*simRun]bool{}
	}
	j.runsOf[h][r] = true
	q.runs = append(q.runs, r)
	j.w.duties.begins(j, r)
	return r
}

func (j *judge) completed(r *simRun, o *runtime.Outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.completed, r.outcome = true, o
	j.w.duties.completes(r)
	j.w.trace.say("%s completes", r)
	delete(j.busy[r.m.Target.Actor()], r)
}

// taken notes that the owner has an answer. Of a host that it has counted lost it wants
// none any more, and says so in the same way.
func (j *judge) taken(h *simHost, a runtime.Attempt) {
	if !h.answers(a.Partition) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.of(a.ID).runs {
		if r.host == h && r.m.Attempt == a {
			r.taken = true
		}
	}
}

// died ends what a host has run.
func (j *judge) died(h *simHost) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.hosts++
	for r := range j.runsOf[h] {
		if !r.completed {
			r.dead = true
		}
		delete(j.busy[r.m.Target.Actor()], r)
	}
	for a := range j.active {
		delete(j.active[a], h)
	}
}

// thawed judges what goes on; the host's mutex is held.
func (j *judge) thawed(h *simHost) {
	j.w.spawn(func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for r := range j.runsOf[h] {
			if !r.goes() {
				continue
			}
			for _, x := range j.of(r.m.Attempt.ID).runs {
				if x != r && x.m.Attempt.Number > r.m.Attempt.Number && x.m.Attempt.Step >= r.m.Attempt.Step {
					j.fault("%s goes on, and %s has begun since", r, x)
				}
			}
			for x := range j.busy[r.m.Target.Actor()] {
				if r.m.Target.IsActor() && x.flow != r.flow && x.goes() {
					j.fault("%s goes on while %s of another flow runs on the actor", r, x)
				}
			}
		}
	})
}

func (j *judge) activated(h *simHost, a runtime.Actor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for x := range j.active[a] {
		if x != h && x.runs() {
			j.fault("actor %s becomes active on %s and is active on %s", a.ID, h.boot, x.boot)
		}
	}
	if j.active[a] == nil {
		j.active[a] = map[*simHost]bool{}
	}
	j.active[a][h] = true
}

func (j *judge) deactivated(h *simHost, a runtime.Actor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for x := range j.busy[a] {
		if x.host == h && x.goes() {
			j.fault("actor %s is deactivated on %s while %s runs", a.ID, h.boot, x)
		}
	}
	delete(j.active[a], h)
}

// outcome judges what a caller is told.
func (j *judge) outcome(id runtime.ID, o *runtime.Outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := j.of(id)
	if q.limited && o.Code == runtime.CodeDeadline {
		return // it may go on
	}
	if q.told != nil && !bytes.Equal(q.told.Body, o.Body) {
		j.fault("a caller of %s is told %s, and was told %s", id, o.Body, q.told.Body)
	}
	q.told = o
	if o.Code != "" || o.Status != 200 {
		j.fault("%s ended with %d %s %s", id, o.Status, o.Code, o.Body)
		return
	}
	for _, r := range q.runs {
		if r.completed && bytes.Equal(r.outcome.Body, o.Body) {
			return
		}
	}
	j.fault("a caller of %s is told %s, which nobody has answered", id, o.Body)
}

func (j *judge) state(a runtime.Actor) *simState {
	s := j.states[a]
	if s == nil {
		s = &simState{pending: map[string]bool{}}
		j.states[a] = s
	}
	return s
}

func (j *judge) writing(a runtime.Actor, value string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state(a).pending[value] = true
}

func (j *judge) written(a runtime.Actor, value string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.state(a)
	s.value, s.pending = value, map[string]bool{}
}

// read judges what an attempt reads of its actor, which nobody else uses meanwhile: what
// earlier attempts have not heard of has happened by now, or never will.
func (j *judge) read(r *simRun, a runtime.Actor, value string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.state(a)
	if value != s.value && !s.pending[value] {
		j.fault("%s reads %q, which was %q (or %v)", r, value, s.value, s.pending)
	}
	s.value, s.pending = value, map[string]bool{}
}

// settle waits until all has ended, and a while longer, in which nothing may happen.
func (j *judge) settle() bool {
	clients := make(chan struct{})
	j.w.spawn(func() { j.clients.Wait(); close(clients) })
	for end := time.Now().Add(simPatience); time.Now().Before(end); sleepFor(j.w.over, time.Second) {
		select {
		case <-clients:
			if j.open() != "" || j.w.open() > 0 || j.w.duties.coming() {
				continue
			}
			before := j.runs()
			sleepFor(j.w.over, 2*time.Minute)
			if n := j.runs(); n != before {
				j.fault("%d attempts begin when all has ended", n-before)
			}
			return true
		default:
		}
	}
	return false
}

func (j *judge) runs() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts.runs
}

// open names what has not ended.
func (j *judge) open() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	n := 0
	for id, q := range j.requests {
		ended := q.told != nil || q.withdrawn || q.unwanted || !q.accepted && len(q.runs) == 0
		for _, r := range q.runs {
			ended = ended || r.completed && (r.taken || !r.host.keeps(r.m.Attempt)) && !bytes.Contains(r.outcome.Body, []byte("tailCall"))
		}
		if ended {
			continue
		}
		if n++; n <= 5 {
			fmt.Fprintf(&b, "%s (accepted %v, runs %v); ", id, q.accepted, q.runs)
		}
	}
	if n > 0 {
		fmt.Fprintf(&b, "%d in all", n)
	}
	return b.String()
}

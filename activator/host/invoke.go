package host

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

var (
	// errLeft ends an attempt without an answer: how it ended is for the exit
	// report of the app to say.
	errLeft = errors.New("the attempt was left")
	// errStopped ends an attempt that has certainly stopped without an answer.
	errStopped = errors.New("the attempt stopped")
)

// actorContent is the Content-Type of arguments.
const actorContent = "application/kar+json"

// invoke starts an attempt unless it is known; the reader calls it.
func (h *Host) invoke(m *runtime.Invoke) {
	h.mu.Lock()
	if h.exited || h.app == nil || !h.parts.admit(m.Attempt.Partition, m.Epoch) {
		h.mu.Unlock()
		return
	}
	known, run := h.attempts.begin(m.Attempt)
	if !run {
		if known.done {
			h.send(&tunnel.Answer{Answer: known.answer})
		}
		h.mu.Unlock()
		return
	}
	if m.Target.IsActor() {
		h.arrive(m.Target.Actor())
	}
	if !h.mayStart(m.Attempt.Partition) {
		h.late = append(h.late, m)
		h.beatNow()
		h.mu.Unlock()
		return
	}
	h.parts.at(m.Attempt.Partition).running++
	h.mu.Unlock()
	h.start(m)
}

// start runs an attempt on a goroutine; h.mu is not held.
func (h *Host) start(m *runtime.Invoke) {
	select {
	case h.pool <- m: // a goroutine with a grown stack waits for work
	default:
		h.wait.Go(func() { h.work(m) })
	}
}

// work runs attempts one after the other, and ends when none comes for a second.
func (h *Host) work(m *runtime.Invoke) {
	idle := time.NewTimer(time.Second)
	defer idle.Stop()
	for {
		h.run(m)
		idle.Reset(time.Second)
		select {
		case m = <-h.pool:
		case <-idle.C:
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// run does one attempt and reports its end, if it is known.
func (h *Host) run(m *runtime.Invoke) {
	m.MarkStep()
	answer := runtime.Answer{Attempt: m.Attempt}
	var err error
	if m.Target.IsActor() {
		answer.Outcome, answer.ActivationFailed, err = h.actorCall(m)
	} else {
		answer.Outcome, err = h.request(&appRequest{method: m.Method, path: m.Path, header: m.Header, body: m.Body}, nil)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.Target.IsActor() {
		defer h.leave(m.Target.Actor()) // after its answer is on the way
	}
	if err != nil && !errors.Is(err, errStopped) {
		return
	}
	if err != nil {
		answer.Outcome, answer.ActivationFailed = nil, false
	}
	h.attempts.end(answer)
	h.parts.at(m.Attempt.Partition).running--
	h.send(&tunnel.Answer{Answer: answer})
	if h.draining || h.parts.at(m.Attempt.Partition).lower != nil {
		h.notify()
	}
}

// actorCall activates when needed, then invokes. Failed tells that activation
// was refused with the outcome.
func (h *Host) actorCall(m *runtime.Invoke) (o *runtime.Outcome, failed bool, err error) {
	actor := m.Target.Actor()
	inst, o, err := h.enter(actor, m)
	if err != nil || o != nil {
		return o, o != nil, err
	}
	r := &appRequest{method: m.Method, path: actorPath(actor) + withSession(m.Path, m.Session), header: m.Header, kind: actorContent, body: m.Body}
	if r.method == "" {
		r.method = http.MethodPost
	}
	for sent := 1; ; sent++ {
		made := inst.made.Load()
		o, err = h.request(r, inst)
		if err != nil || o.Status != http.StatusNotFound {
			return o, false, err
		}
		again, refused, err := h.unknown(inst, made, m.Session)
		switch {
		case err != nil || refused != nil:
			return refused, refused != nil, err
		case !again || sent == 2:
			return o, false, nil
		}
	}
}

// unknown decides what a 404 for an active actor means. Either it is an answer, or
// the app has restarted and knows no such actor: then activating answers "created",
// nothing has run, and the call is to be sent again. "Created" alone does not prove
// that: a method that ends its actor has run and may answer 404, too. So a program
// that listens must have begun after the actor was activated. Where that cannot be seen
// the app is asked once more: one that answers "created" again says so always, which
// means nothing. Made is inst.made from before the call: another call may have found
// out meanwhile.
func (h *Host) unknown(inst *instance, made uint32, session string) (again bool, refused *runtime.Outcome, err error) {
	inst.finding.Lock()
	defer inst.finding.Unlock()
	if inst.made.Load() != made {
		return true, nil, nil
	}
	h.mu.Lock()
	pointless := h.created[inst.actor.Type]
	h.mu.Unlock()
	if pointless {
		return false, nil, nil
	}
	for asked := range 2 {
		now := h.programs()
		o, err := h.request(&appRequest{method: http.MethodGet, path: actorPath(inst.actor) + withSession("", session)}, inst)
		switch {
		case err != nil:
			return false, nil, err
		case o.Status >= 400:
			h.forget(inst)
			return false, o, nil
		case o.Status != http.StatusCreated:
			inst.made.Add(uint32(asked))
			return asked == 1, nil, nil
		case asked == 0:
			restarted := inst.restarted()
			inst.replaced = now
			if !restarted {
				return false, nil, nil
			}
		}
	}
	h.mu.Lock()
	h.created[inst.actor.Type] = true
	h.mu.Unlock()
	return false, nil, nil
}

// programs notes which programs the app consists of; nil without a witness.
func (h *Host) programs() (replaced func() (yes, known bool)) {
	if h.cfg.Witness == nil {
		return nil
	}
	return h.cfg.Witness.Programs()
}

// restarted tells whether the app may be another program than before the actor
// became active; finding is held.
func (inst *instance) restarted() bool {
	if inst.replaced == nil {
		return true
	}
	yes, known := inst.replaced()
	return yes || !known
}

// request sends r to the app and waits for a complete answer. Without one it
// finds out what that means: see appGone.
func (h *Host) request(r *appRequest, inst *instance) (*runtime.Outcome, error) {
	if inst != nil {
		r.actor = &inst.actor
	}
	h.mu.Lock()
	r.limit = h.bodyLimit
	seen := h.restarts.count
	h.mu.Unlock()
	var refused refusals
	for {
		began := time.Now()
		o, err := follow(h.ctx, h.app, h.base, r)
		if err == nil {
			return o, nil
		}
		if h.ctx.Err() != nil {
			return nil, errLeft
		}
		if errors.Is(err, errNotSent) && h.cfg.Guard != nil {
			// Nothing has run. The process lives, or its exit is about to be reported.
			if !refused.pause(h) {
				return nil, errLeft
			}
			continue
		}
		return nil, h.appGone(err, r, began, seen, inst)
	}
}

// actorPath is the app's route of an actor; ids may hold any character.
func actorPath(a runtime.Actor) string {
	return "/kar/impl/v1/actor/" + segment(a.Type) + "/" + segment(a.ID)
}

// segment escapes one part of a path. A dot alone would be taken as "this folder".
func segment(s string) string {
	switch s {
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return url.PathEscape(s)
}

// withSession appends the session to a path that may have a query.
func withSession(path, session string) string {
	if session == "" {
		return path
	}
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	return path + sep + "session=" + sessionQuery(session)
}

// sessionQuery leaves the characters of sessions as KAR 1.x sent them, and
// escapes anything else.
func sessionQuery(s string) string {
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._:-", c) >= 0
		if !plain {
			return url.QueryEscape(s)
		}
	}
	return s
}

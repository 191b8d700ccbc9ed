package runtimetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A simBody is the argument of every simulated method: who holds what above
// it, so that no two flows wait for each other, and who asked for it.
type simBody struct {
	Stack []int  `json:"stack"`          // actors that the flow holds
	Depth int    `json:"depth"`          // calls and steps so far
	From  string `json:"from,omitempty"` // token of the attempt whose tail call this is
	Kept  bool   `json:"kept,omitempty"` // it kept the lock
	// Bare: called by a service, which has no session to pass on. Its callers
	// may hold any actor, so none may be waited for.
	Bare bool   `json:"bare,omitempty"`
	Pad  string `json:"pad,omitempty"` // weight
}

func (b simBody) encode() []byte {
	out, _ := json.Marshal(b)
	return out
}

// A simAttempt is one execution of a method.
type simAttempt struct {
	h      *simHost
	m      *runtime.Invoke
	body   simBody
	done   bool
	live   bool
	answer runtime.Answer
	began  int64
	ended  int64
	// wildness counts what it has done beside calling and waiting.
	wildness int
}

func (x *simAttempt) token() string {
	return fmt.Sprintf("%s/%d.%d@%s", x.m.Attempt.ID, x.m.Attempt.Step, x.m.Attempt.Number, x.h.boot)
}

func (x *simAttempt) self() int {
	if !x.m.Target.IsActor() {
		return -1
	}
	n, _ := strconv.Atoi(x.m.Target.ID)
	return n
}

func (x *simAttempt) begin() {
	if x.live || x.done {
		return
	}
	var events []json.RawMessage
	if json.Unmarshal(x.m.Body, &x.body) != nil && (json.Unmarshal(x.m.Body, &events) != nil || len(events) > 0 && json.Unmarshal(events[0], &x.body) != nil) {
		x.h.s.wit.fail("a method got the body %q", x.m.Body)
	}
	x.live, x.began = true, x.h.s.now
	x.h.s.wit.began(x)
	if x.h.s.opt.Burst { // so much of it has to be quick
		x.h.app(x.h.s.between(0, 3), x.end)
		return
	}
	if x.m.Target.IsActor() && x.h.s.chance(60) {
		access := x.readWrite
		if x.h.s.opt.Foreign && x.h.s.chance(50) {
			access = x.anyState
		}
		x.h.app(x.h.s.between(0, 20), func() {
			access(func() { x.h.app(x.h.s.between(0, 60), x.act) })
		})
		return
	}
	x.h.app(x.h.s.between(0, 60), x.act)
}

// act goes on: calls somebody, or ends in one of the ways that there are.
func (x *simAttempt) act() {
	s := x.h.s
	if s.opt.Wild && x.wildness < 3 && x.body.Depth < simLeaf && s.chance(25) {
		x.wild(func() { x.h.app(s.between(0, 40), x.act) })
		return
	}
	if x.body.Depth < 4 && s.chance(45) {
		x.call(func() { x.h.app(s.between(0, 40), x.act) })
		return
	}
	if s.chance(5) {
		x.h.app(s.between(500, 9000), x.end)
		return
	}
	x.h.app(s.between(0, 80), x.end)
}

// target picks an actor above all that the flow holds, or one that it holds.
func (x *simAttempt) target(held []int) (runtime.Target, bool) {
	s := x.h.s
	if x.body.Bare {
		return simService(x.h.name), true
	}
	if len(held) > 0 && s.chance(30) {
		return simActor(x.h.name, held[s.rng.Intn(len(held))]), true
	}
	low := 0
	if len(held) > 0 {
		low = slices.Max(held) + 1
	}
	if low >= simActors || s.chance(20) {
		return simService(x.h.name), true
	}
	return simActor(x.h.name, low+s.rng.Intn(simActors-low)), true
}

func (x *simAttempt) call(then func()) {
	s := x.h.s
	held := x.holding()
	t, _ := x.target(held)
	if x.m.Session == "" { // services have no session
		t = simService(x.h.name)
		held = nil
	}
	x.body.Depth++
	r := runtime.Request{ID: s.newID(t, ""), Kind: runtime.Call, Target: t, Method: "POST", Path: "/m",
		Body: simBody{Stack: held, Depth: x.body.Depth + 1, Bare: x.m.Session == ""}.encode(), Session: x.m.Session, Boot: x.h.boot}
	if s.opt.Limits {
		r.CancelWithCaller = s.chance(20)
		r.Body = x.pad(simBody{Stack: held, Depth: x.body.Depth + 1, Bare: x.m.Session == ""})
	}
	s.wit.called(x, &r)
	s.submit(r, x.h, func(e *runtime.Effect) { then() })
}

func (x *simAttempt) end() {
	s := x.h.s
	body := fmt.Appendf(nil, `{"value":%q}`, x.token())
	switch {
	case s.chance(8):
		body = fmt.Appendf(nil, `{"error":true,"message":%q}`, x.token())
	case x.body.Depth < 5 && s.chance(30):
		body = x.tailCall()
	case s.faults && s.chance(3):
		x.finish(runtime.Answer{}) // the answer is lost: stopped, may be retried
		return
	}
	x.finish(runtime.Answer{Outcome: &runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: body}})
}

func (x *simAttempt) tailCall() []byte {
	s := x.h.s
	t, _ := x.target(x.body.Stack)
	kept := false
	if n := x.self(); n >= 0 && s.chance(50) {
		t, kept = x.m.Target, s.chance(70)
	}
	if kept && s.opt.Bug == "forget-lock" {
		return x.tailCallBody(t, simBody{Stack: x.body.Stack, Depth: x.body.Depth + 1, From: x.token(), Kept: true, Bare: x.body.Bare}, true)
	}
	return x.tailCallBody(t, simBody{Stack: x.body.Stack, Depth: x.body.Depth + 1, From: x.token(), Kept: kept, Bare: x.body.Bare}, !kept)
}

func (x *simAttempt) tailCallBody(t runtime.Target, b simBody, release bool) []byte {
	to := map[string]any{"path": "/m", "payload": string(b.encode()), "releaseLock": fmt.Sprint(release)}
	if t.IsActor() {
		to["actorType"], to["actorId"] = t.Type, t.ID
	} else {
		to["serviceName"] = t.Service
	}
	out, _ := json.Marshal(map[string]any{"tailCall": true, "value": to})
	return out
}

func (x *simAttempt) pad(b simBody) []byte {
	b.Pad = strings.Repeat("x", x.h.s.rng.Intn(1500))
	return b.encode()
}

func (x *simAttempt) finish(a runtime.Answer) {
	a.Attempt = x.m.Attempt
	x.answer, x.done, x.live, x.ended = a, true, false, x.h.s.now
	x.h.s.wit.ended(x)
	x.h.tell(x)
	x.h.left(x)
	if x.h.s.opt.Wild && x.body.Depth < simLeaf && x.h.s.faults && x.h.s.chance(10) {
		x.late()
	}
}

func sortAttempts(as []runtime.Attempt) {
	sort.Slice(as, func(i, j int) bool {
		a, b := as[i], as[j]
		if a.ID != b.ID {
			return string(a.ID[:]) < string(b.ID[:])
		}
		return a.Step < b.Step || a.Step == b.Step && a.Number < b.Number
	})
}

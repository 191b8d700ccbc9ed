package runtimetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"

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
	Bare bool `json:"bare,omitempty"`
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
	if x.m.Target.IsActor() && x.h.s.chance(60) {
		x.h.app(x.h.s.between(0, 20), x.readWrite)
		return
	}
	x.h.app(x.h.s.between(0, 60), x.act)
}

// readWrite reads the actor's one state key and writes it anew.
func (x *simAttempt) readWrite() {
	a := x.m.Target.Actor()
	x.state(runtime.StateOp{Actor: a, Verb: runtime.StateGet, Key: "k", Boot: x.h.boot}, func(r runtime.StateResult, refused bool) {
		if refused {
			return
		}
		x.h.s.wit.read(x, a, string(r.Value))
		token := fmt.Sprintf("%s~%d", x.token(), x.h.s.between(0, 1<<30))
		x.h.s.wit.writing(x, a, token)
		x.state(runtime.StateOp{Actor: a, Verb: runtime.StateSet, Key: "k", Value: []byte(token), Boot: x.h.boot}, func(_ runtime.StateResult, refused bool) {
			x.h.s.wit.wrote(x, a, token, refused)
			x.h.app(x.h.s.between(0, 60), x.act)
		})
	})
}

// state asks the owner until there is an answer.
func (x *simAttempt) state(op runtime.StateOp, then func(runtime.StateResult, bool)) {
	s, p := x.h.s, runtime.ActorPartition(op.Actor, x.h.s.opt.Partitions)
	if s.opt.Bug == "late-writes" {
		op.Boot = ""
	}
	answered := false
	var again func()
	again = func() {
		if answered {
			return
		}
		// It leaves the host now, and arrives whatever becomes of the host.
		s.after(s.between(0, 20), func() {
			if s.faults && s.chance(5) {
				return
			}
			late := int64(0)
			if s.faults && s.chance(3) {
				late = s.between(0, 9000)
			}
			s.after(late, func() {
				o := s.ownerOf(p)
				if o == nil {
					return
				}
				o.stateInput(op, func(e *runtime.Effect) {
					x.h.at(s.between(0, 10), func() {
						if answered || e.Err != nil && e.Err.Code == runtime.CodeAskAgain {
							return
						}
						answered = true
						r, _ := e.Value.(runtime.StateResult)
						x.h.app(0, func() { then(r, e.Err != nil) })
					})
				})
			})
		})
		if op.Verb.Reads() || !s.faults {
			x.h.app(1000, again)
		} else {
			x.h.app(12_000, again) // a write is not repeated while it may still arrive
		}
	}
	again()
}

// act goes on: calls somebody, or ends in one of the ways that there are.
func (x *simAttempt) act() {
	s := x.h.s
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
	held := slices.Clone(x.body.Stack)
	if n := x.self(); n >= 0 && !slices.Contains(held, n) {
		held = append(held, n)
	}
	t, _ := x.target(held)
	if x.m.Session == "" { // services have no session
		t = simService(x.h.name)
		held = nil
	}
	x.body.Depth++
	r := runtime.Request{ID: s.newID(t, ""), Kind: runtime.Call, Target: t, Method: "POST", Path: "/m",
		Body: simBody{Stack: held, Depth: x.body.Depth + 1, Bare: x.m.Session == ""}.encode(), Session: x.m.Session, Boot: x.h.boot}
	s.wit.called(x, r.ID)
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
		s.wit.tailCalled(x, true)
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

func (x *simAttempt) finish(a runtime.Answer) {
	a.Attempt = x.m.Attempt
	x.answer, x.done, x.live, x.ended = a, true, false, x.h.s.now
	x.h.s.wit.ended(x)
	x.h.tell(x)
	x.h.left(x)
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

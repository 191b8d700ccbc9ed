package runtimetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A stageRun is one attempt in the app of a stage. What methods do depends on
// their path and argument alone, so that each run ends alike.
type stageRun struct {
	h      *stageHost
	m      *runtime.Invoke
	name   string
	done   bool
	answer runtime.Answer
}

func (h *stageHost) run(m *runtime.Invoke) {
	var args []string
	_ = json.Unmarshal(m.Body, &args) // reminders without data have none
	x := &stageRun{h: h, m: m, name: m.Path}
	if len(args) > 0 {
		x.name = args[0]
	}
	h.attempts[m.Attempt] = x
	if m.Target.IsActor() {
		h.instances[m.Target.Actor()] = true
	}
	if m.Path != "/tick" {
		h.s.ran[x.name+m.Path]++
	}
	x.play()
}

func (x *stageRun) play() {
	s := x.h.s
	actor := func(typ, id string) runtime.Target { return runtime.Target{App: simApp, Type: typ, ID: id} }
	switch x.m.Path {
	case "/set":
		x.set(x.name, func() { x.value("set " + x.name) })
	case "/fields":
		x.fields(func(n int) { x.value(fmt.Sprint(n, " fields")) })
	case "/outer":
		x.call(actor("B", "1"), "/middle", func(v string) { x.set("outer", func() { x.value("outer " + v) }) })
	case "/middle":
		x.call(actor("A", "1"), "/leaf", func(v string) { x.value("middle " + v) })
	case "/leaf":
		x.set("leaf", func() { x.value("leaf") })
	case "/chain1":
		x.set("chain1", func() { x.tail(x.m.Target, "/chain2", false) })
	case "/chain2":
		x.set("chain2", func() { x.tail(actor("B", "2"), "/chain3", true) })
	case "/chain3":
		x.set("chain3", func() { x.value("chained") })
	case "/plain":
		x.end(200, "text/plain", []byte("plain"))
	case "/fail":
		x.end(500, "text/plain", []byte("failed"))
	case "/error":
		x.end(200, "application/kar+json", []byte(`{"error":true,"message":"no"}`))
	case "/hang":
		if x.m.Attempt.Number > 1 || x.h.boot != "frail" {
			x.value("firm")
		}
	case "/tick":
		due, err := time.Parse(time.RFC3339Nano, x.m.Header.Get("Kar-Reminder-Due"))
		n, err2 := strconv.ParseInt(x.m.Header.Get("Kar-Reminder-Count"), 10, 64)
		if err != nil || err2 != nil {
			s.fail("a firing without due time or count: %v", x.m.Header)
		}
		ms := due.UnixMilli()
		if _, again := s.fired[ms]; again && !s.plan.hostsDie {
			s.fail("the due time %d fired twice on hosts that lived", ms)
		}
		s.fired[ms] = n
		x.value("tick")
	default:
		x.end(404, "text/plain", nil)
	}
}

// state asks the owner, for the generation first.
func (x *stageRun) state(op runtime.StateOp, then func(r runtime.StateResult)) {
	s := x.h.s
	op.Actor, op.Boot = x.m.Target.Actor(), x.h.boot
	s.ask(x.h, func(w any) runtime.Input {
		return &runtime.Query{Kind: runtime.QueryGeneration, App: op.Actor.App, Waiter: w}
	}, func(e *runtime.Effect) {
		gen, _ := e.Value.(uint64)
		s.ask(x.h, func(w any) runtime.Input {
			v := s.disk.store.view()
			v.Generation = gen
			return &runtime.StateInput{Op: op, View: v, Waiter: w}
		}, func(e *runtime.Effect) {
			if e.Err != nil && e.Err.Code == runtime.CodeAskAgain {
				x.state(op, then) // the app was purged in between
				return
			}
			r, _ := e.Value.(runtime.StateResult)
			then(r)
		}).once = true
	})
}

func (x *stageRun) set(key string, then func()) {
	x.state(runtime.StateOp{Verb: runtime.StateSet, Key: key, Value: []byte(`"yes"`)}, func(runtime.StateResult) { then() })
}

func (x *stageRun) fields(then func(n int)) {
	x.state(runtime.StateOp{Verb: runtime.StateAll}, func(r runtime.StateResult) { then(len(r.Fields)) })
}

// call is a nested call of this attempt; another attempt makes another.
func (x *stageRun) call(t runtime.Target, path string, then func(value string)) {
	s := x.h.s
	name := fmt.Sprintf("%s>%s#%d@%s", x.name, path, x.m.Attempt.Number, x.h.boot)
	r := runtime.Request{Target: t, Path: path, Session: x.m.Session, Boot: x.h.boot, Body: fmt.Appendf(nil, "[%q]", x.name)}
	s.request(x.h, name, r, func(e *runtime.Effect) {
		if e.Outcome == nil {
			s.fail("%s got %v", name, e.Err)
			return
		}
		var body struct{ Value string }
		_ = json.Unmarshal(e.Outcome.Body, &body)
		then(body.Value)
	})
}

func (x *stageRun) value(v string) {
	b, _ := json.Marshal(map[string]string{"value": v})
	x.end(200, "application/kar+json", b)
}

func (x *stageRun) tail(t runtime.Target, path string, release bool) {
	b, _ := json.Marshal(map[string]any{"tailCall": true, "value": map[string]any{
		"actorType": t.Type, "actorId": t.ID, "path": path, "payload": fmt.Sprintf("[%q]", x.name), "releaseLock": fmt.Sprint(release),
	}})
	x.end(200, "application/kar+json", b)
}

func (x *stageRun) end(status int, kind string, body []byte) {
	x.done = true
	x.answer = runtime.Answer{Attempt: x.m.Attempt, Outcome: &runtime.Outcome{Status: status, Header: runtime.Header{"Content-Type": {kind}}, Body: body}}
	x.h.s.in = append(x.h.s.in, &runtime.Answered{Boot: x.h.boot, Answer: x.answer})
	x.h.rest(x.m.Target.Actor())
}

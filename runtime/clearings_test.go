package runtime

import (
	"fmt"
	"testing"
	"time"
)

// askToClear is what draws a line.
var askToClear = map[string]func(app string, id ID, waiter any) Input{
	"cancel": func(app string, id ID, w any) Input { return &CancelAll{App: app, ID: id, Waiter: w} },
	"drain":  func(app string, id ID, w any) Input { return &Drain{App: app, ID: id, Waiter: w} },
}

// begun leaves a request of the app dp that has started.
func (s *solo) begun() ID {
	to := Target{App: "dp", Type: "A", ID: "1"}
	id := s.id(to)
	s.host("h1")
	s.do(&Submit{Request: Request{ID: id, Kind: Tell, Target: to, Path: "/m"}, Waiter: "tell"})
	return id
}

// A drain or a cancel of all is forgotten when its asker has the answer, or asks no more,
// by the next owners as well.
func TestReleasedClearingsAreForgotten(t *testing.T) {
	for name, ask := range askToClear {
		s := newSolo(t, Config{})
		s.begun() // of which no drain sees the end
		for i := range 3 * clearingsOfApp {
			id := s.id(Target{App: "dp"})
			told := codesOf(s.do(ask("dp", id, "w")))
			s.do(&Release{App: "other", IDs: []ID{id}})
			if len(told["w"]) != 0 && told["w"][0] != "" || len(s.c.clearings) != 1 {
				t.Fatalf("%s %d: %v, and %d are known", name, i, told, len(s.c.clearings))
			}
			s.do(&Release{App: "dp", IDs: []ID{id}})
			s.do(&Leave{ID: id, Waiter: "w"})
		}
		s.do(&Submit{Request: Request{ID: s.id(Target{App: "dp"}), Kind: Tell, Target: Target{App: "dp", Service: "s"}, Path: "/m"}, Waiter: "tell"})
		s.reown()
		if n := len(s.c.clearings) + len(s.c.apps["dp"].drains); n != 0 {
			t.Errorf("%s: %d are known for ever", name, n)
		}
	}
}

// A drain that nobody waits for any more is forgotten in time, though it is not over.
// Who asks for it until then goes on with its line.
func TestDrainWithoutAnAsker(t *testing.T) {
	s := newSolo(t, Config{})
	long, to := s.begun(), Target{App: "dp", Type: "A", ID: "1"}
	left, kept := s.id(to), s.id(to)
	for _, id := range []ID{left, kept} {
		s.do(&Drain{App: "dp", ID: id, Waiter: "w"})
		s.do(&Drain{App: "dp", ID: id, Waiter: "again"})
		s.do(&Leave{ID: id, Waiter: "w"})
	}
	if n := len(s.c.apps["dp"].drains); n != 2 {
		t.Fatalf("%d drains go on", n)
	}
	s.do(&Leave{ID: left, Waiter: "again"})
	s.do(&Leave{ID: left, Waiter: "nobody"})
	s.do(&Leave{ID: kept, Waiter: "again"})
	later := s.id(to)
	s.do(&Submit{Request: Request{ID: later, Kind: Tell, Target: to, Path: "/m"}, Waiter: "tell"})
	s.do(&Drain{App: "dp", ID: kept, Waiter: "late"})
	for range 3 {
		s.pass(time.Duration(s.c.cfg.IDWindow) * time.Millisecond)
		s.do(&Tick{})
	}
	if s.c.clearings[left] != nil || s.c.clearings[kept] == nil || len(s.c.apps["dp"].drains) != 1 {
		t.Errorf("%d drains are known", len(s.c.clearings))
	}
	if s.c.entries[later] == nil {
		t.Error("what came behind the line is gone")
	}
	s.host("h1")
	e := s.c.entries[long]
	told := codesOf(s.do(&Answered{Boot: e.host, Answer: Answer{Attempt: s.c.attemptOf(e), Outcome: &Outcome{Status: 200}}}))
	if len(told["late"]) != 1 || told["late"][0] != "" || told["again"] != nil {
		t.Errorf("they are told %v", told)
	}
}

// An app has so many of them that an owner knows; its next one is refused.
func TestClearingsOfAnAppAreBounded(t *testing.T) {
	for name, ask := range askToClear {
		for _, level := range []int{1, 2} {
			if level == 1 && name == "cancel" {
				continue // of which nothing is kept
			}
			s := newSolo(t, Config{})
			s.c.level = level
			s.begun()
			for i := range clearingsOfApp + 3 {
				told := codesOf(s.do(ask("dp", s.id(Target{App: "dp"}), fmt.Sprint(i))))[fmt.Sprint(i)]
				if refused := len(told) == 1 && told[0] == CodeMailboxFull; refused != (i >= clearingsOfApp) {
					t.Fatalf("%s %d of level %d is told %v", name, i, level, told)
				}
			}
			if told := codesOf(s.do(ask("small", s.id(Target{App: "small"}), "w")))["w"]; len(told) != 1 || told[0] != "" {
				t.Errorf("%s of another app is told %v", name, told)
			}
		}
	}
}

func codesOf(effects []Effect) map[any][]Code {
	told := map[any][]Code{}
	for _, e := range effects {
		if e.Kind == Reply {
			code := Code("")
			if e.Err != nil {
				code = e.Err.Code
			}
			told[e.Waiter] = append(told[e.Waiter], code)
		}
	}
	return told
}

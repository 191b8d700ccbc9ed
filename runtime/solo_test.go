package runtime

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A solo is one partition with its log, driven input by input, for what the
// text of a scenario cannot say.
type solo struct {
	t   *testing.T
	c   *Core
	now Now
	log [][]byte
	ids int
}

func newSolo(t *testing.T, cfg Config) *solo {
	cfg.Mesh, cfg.Node, cfg.Lease = "test", "g1", 6000
	cfg.Partitions = max(cfg.Partitions, 1)
	cfg.IDWindow, cfg.ResultRetention = 600_000, 86_400_000
	s := &solo{t: t, now: Now{1767225600000, 1_000_000}}
	s.own(cfg)
	return s
}

// own makes an owner from the log.
func (s *solo) own(cfg Config) {
	c := New(cfg)
	fold := func(b []byte) {
		if _, err := c.Fold(b); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, b := range s.log {
		fold(b)
	}
	s.log = append(s.log, c.Claim(s.now))
	fold(s.log[len(s.log)-1])
	c.TakeChanges()
	if !c.Own(s.now, 0) {
		s.t.Fatal("not owned")
	}
	s.c = c
	s.take()
}

// reown lets the next owner read the log.
func (s *solo) reown() {
	cfg := s.c.cfg
	cfg.Node += "+"
	s.own(cfg)
}

func (s *solo) take() []Effect {
	if len(s.c.publishings)+len(s.c.strangers)+len(s.c.entries)+len(s.c.actors)+len(s.c.endings)+s.c.remCount+len(s.c.memberOf)+len(s.c.view.recent) < 50 {
		if bad := recounted(s.c); bad != nil {
			s.t.Fatalf("the partition does not agree with itself:\n%s", strings.Join(bad, "\n"))
		}
	}
	records, effects := s.c.Take()
	s.log = append(s.log, records...)
	return effects
}

func (s *solo) do(in Input) []Effect {
	s.c.Step(s.now, in)
	return s.take()
}

// answer is what the waiter of in gets; nil when it still waits.
func (s *solo) answer(in Input) *Effect {
	for _, e := range s.do(in) {
		if e.Kind == Reply && e.Waiter == WaiterOf(in) {
			return &e
		}
	}
	return nil
}

func (s *solo) pass(d time.Duration) {
	s.now.Wall += d.Milliseconds()
	s.now.Mono += d.Milliseconds()
}

func (s *solo) id(t Target) ID {
	s.ids++
	rnd := [6]byte{byte(s.ids >> 24), byte(s.ids >> 16), byte(s.ids >> 8), byte(s.ids)}
	id := NewID(s.now.Wall, 0, t.App, rnd)
	return NewID(s.now.Wall, PartitionOf(t, "", id, s.c.cfg.Partitions), t.App, rnd)
}

func (s *solo) host(boot string) {
	s.do(&HostJoined{Info: HostInfo{Boot: boot, App: "dp", Service: "s", Actors: []string{"A", "B"}, Grace: 6000}})
}

// actorIn is an actor that lives in a partition.
func actorIn(partition uint16, partitions int, typ string) Actor {
	for i := 0; ; i++ {
		if a := (Actor{"dp", typ, fmt.Sprint(i)}); ActorPartition(a, partitions) == partition {
			return a
		}
	}
}

func (a Actor) target() Target { return Target{App: a.App, Type: a.Type, ID: a.ID} }

// codeIn is the code of an error of KAR, "" of none.
func codeIn(err error) Code {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// codeOf is the code with which an effect refuses, "" when it does not.
func codeOf(e *Effect) Code {
	if e == nil || e.Err == nil {
		return ""
	}
	return e.Err.Code
}

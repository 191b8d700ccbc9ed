package runtime

import (
	"strings"
	"testing"
)

func (s *solo) tell(app, id string, size int) *Effect {
	t := Target{App: app, Type: "T", ID: id}
	return s.answer(&Submit{Request: Request{ID: s.id(t), Kind: Tell, Target: t, Method: "POST", Path: "/m", Body: []byte(strings.Repeat("x", size))}, Waiter: id})
}

// Bytes count as well as numbers: those of an app, of the partition, and what the
// node has left. What ends gives its bytes back.
func TestWorkIsBoundedInBytes(t *testing.T) {
	s := newSolo(t, Config{WorkBytes: 100_000})
	if e := s.tell("one", "1", 40_000); codeOf(e) != "" {
		t.Fatal(e.Err)
	}
	if e := s.tell("one", "2", 10_000); codeOf(e) != CodeMailboxFull {
		t.Errorf("an app has half of it: %+v", e)
	}
	if e := s.tell("two", "1", 40_000); codeOf(e) != "" {
		t.Errorf("others are not refused for it: %v", e.Err)
	}
	if e := s.tell("three", "1", 30_000); codeOf(e) != CodeMailboxFull {
		t.Errorf("the partition is full: %+v", e)
	}
	s.do(&CancelAll{App: "one", Waiter: "w"})
	if e := s.tell("three", "1", 30_000); codeOf(e) != "" {
		t.Errorf("there is room again: %v", e.Err)
	}
	s.c.SetSpare(5000, 0)
	if e := s.tell("four", "1", 3000); codeOf(e) != "" {
		t.Errorf("it fits: %v", e.Err)
	}
	if e := s.tell("four", "2", 3000); codeOf(e) != CodeMailboxFull {
		t.Errorf("the node has nothing left: %+v", e)
	}
	s.do(&CancelAll{App: "two", Waiter: "w"})
	s.do(&CancelAll{App: "three", Waiter: "w"})
	s.do(&CancelAll{App: "four", Waiter: "w"})
	if s.c.load.held != 0 || s.c.load.total != 0 || s.c.load.bodied != 0 {
		t.Errorf("nothing is open: %+v", s.c.load)
	}
}

// What came last is let go of first, a new owner may let go of everything while
// it reads, and small bodies stay.
func TestShed(t *testing.T) {
	s := newSolo(t, Config{})
	for _, id := range []string{"1", "2", "3"} {
		s.tell("one", id, 10_000)
	}
	s.tell("one", "small", 100)
	before := s.c.Held()
	s.c.Shed(15_000)
	if freed := before - s.c.Held(); freed != 20_000 {
		t.Errorf("%d bytes are free", freed)
	}
	for _, e := range s.c.entries {
		if want := e.req.Target.ID == "2" || e.req.Target.ID == "3"; e.absent() != want {
			t.Errorf("tell %s: absent %v", e.req.Target.ID, e.absent())
		}
	}
	s.c.Shed(1 << 40)
	if s.c.Held() > before-30_000 || len(s.c.load.bodies) != 0 {
		t.Errorf("%d bytes held", s.c.Held())
	}
}

// A purge while the body of a started attempt is being read: nothing has left,
// so nothing has to be waited for, and nothing leaves any more.
func TestPurgeWhileABodyIsRead(t *testing.T) {
	s := newSolo(t, Config{})
	s.tell("dp", "1", 10_000)
	s.c.Shed(1 << 40)
	s.now.Mono++
	h := HostInfo{Boot: "h1", App: "dp", Actors: []string{"T"}, Grace: 6000}
	var need *Effect
	for _, e := range s.do(&HostJoined{Info: h}) {
		if e.Kind == NeedBody {
			need = &e
		}
	}
	if need == nil {
		t.Fatal("nobody asks for the body")
	}
	s.do(&Purge{App: "dp", Waiter: "w"})
	a := Actor{App: "dp", Type: "T", ID: "1"}
	if x := s.c.actors[a]; x != nil && len(x.zombies) > 0 {
		t.Errorf("an attempt that has not left haunts the actor: %+v", x.zombies)
	}
	for _, e := range s.do(&BodyRead{ID: need.ID, At: need.N, Body: make([]byte, 10_000), Found: true}) {
		if _, ok := e.Msg.(*Invoke); ok {
			t.Error("it leaves after the purge")
		}
	}
}

// Somebody has deleted the records that hold bodies: their requests end by name, and
// what is live can be kept. An attempt that a host may run ends by its answer.
func TestBodyThatIsLost(t *testing.T) {
	s := newSolo(t, Config{})
	h := HostInfo{Boot: "h1", App: "one", Actors: []string{"T"}, Grace: 6000}
	s.do(&HostJoined{Info: h})
	s.tell("one", "1", 10_000) // runs
	s.tell("one", "1", 10_000) // waits for it
	s.tell("two", "1", 10_000) // has no host
	if s.c.Shed(1 << 40); len(s.c.entries) != 3 {
		t.Fatal(len(s.c.entries), "requests")
	}
	lost := func(effects []Effect) (n, dead int) {
		for _, e := range effects {
			switch e.Kind {
			case NeedBody:
				n++
				for _, e := range s.do(&BodyRead{ID: e.ID, At: e.N}) {
					if e.Kind == AppError && e.Outcome.Code == CodeBodyLost {
						dead++
					}
				}
			case AppError:
				dead++
			}
		}
		return n, dead
	}
	cut := s.c.Seq() + 1
	if n, dead := lost(s.do(&Keep{Before: cut, Limit: 100})); n != 3 || dead != 2 {
		t.Errorf("%d bodies asked for, %d dead letters", n, dead)
	}
	if s.c.Reading() || len(s.c.entries) != 1 {
		t.Errorf("reading %v, %d requests", s.c.Reading(), len(s.c.entries))
	}
	for _, e := range s.c.entries {
		s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: s.c.attemptOf(e), Outcome: &Outcome{Status: 200}}})
	}
	s.do(&Keep{Before: cut, Limit: 100})
	if s.c.OldestLive() < cut || s.c.Held() != 0 {
		t.Errorf("record %d is needed, %d bytes held", s.c.OldestLive(), s.c.Held())
	}
	// A started attempt that has not left for want of its body.
	s.tell("two", "2", 10_000)
	s.c.Shed(1 << 40)
	if n, dead := lost(s.do(&HostJoined{Info: HostInfo{Boot: "h2", App: "two", Actors: []string{"T"}, Grace: 6000}})); n != 1 || dead != 1 || len(s.c.entries) != 0 {
		t.Errorf("%d bodies asked for, %d dead letters, %d requests", n, dead, len(s.c.entries))
	}
}

// The way to a host breaks while the body of an attempt is being read: nothing is sent
// there before it has come back.
func TestBodyOfAHostThatIsAway(t *testing.T) {
	s := newSolo(t, Config{})
	s.tell("dp", "1", 10_000)
	s.c.Shed(1 << 40)
	s.now.Mono++
	h := HostInfo{Boot: "h1", App: "dp", Actors: []string{"T"}, Grace: 6000}
	var need *Effect
	invokes := func(effects []Effect) (n int) {
		for _, e := range effects {
			if e.Kind == NeedBody {
				need = &e
			}
			if _, ok := e.Msg.(*Invoke); ok {
				n++
			}
		}
		return n
	}
	invokes(s.do(&HostJoined{Info: h}))
	if need == nil {
		t.Fatal("nobody asks for the body")
	}
	s.do(&HostUnlinked{Boot: "h1"})
	if n := invokes(s.do(&BodyRead{ID: need.ID, At: need.N, Body: make([]byte, 10_000), Found: true})); n != 0 {
		t.Errorf("%d are sent to a host that is away", n)
	}
	need = nil
	n := invokes(s.do(&HostJoined{Info: h}))
	if need != nil {
		n += invokes(s.do(&BodyRead{ID: need.ID, At: need.N, Body: make([]byte, 10_000), Found: true}))
	}
	if n != 1 {
		t.Errorf("%d are sent when it is back", n)
	}
}

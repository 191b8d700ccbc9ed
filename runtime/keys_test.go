package runtime

import "testing"

// A name may hold any byte, so no two keys may look alike when their parts are put together.
func TestKeysWithNULAreApart(t *testing.T) {
	a := Request{Target: Target{App: "dp", Type: "A", ID: "x\x00"}, Key: "k"}
	b := Request{Target: Target{App: "dp", Type: "A", ID: "x"}, Key: "\x00k"}
	if keyOf(&a) == keyOf(&b) {
		t.Error("the keys of two actors are one")
	}
	x := Request{Method: "POST", Path: "/a\x00", Body: []byte("b")}
	y := Request{Method: "POST", Path: "/a", Body: []byte("\x00b")}
	if bodyHash(&x) == bodyHash(&y) {
		t.Error("two paths and bodies are one")
	}
	plain := Request{Method: "POST", Path: "/a", Body: []byte("b")}
	if got := bodyHash(&plain); got != hash64("POST", "/a", "b") {
		t.Error("the hash of a plain request has changed: stores and logs hold it")
	}
}

// A session that anybody can write does not open a full mailbox.
func TestSessionDoesNotSwitchTheMailboxLimitOff(t *testing.T) {
	s := newSolo(t, Config{MailboxLimit: 2})
	s.host("h1")
	a := Target{App: "dp", Type: "A", ID: "x"}
	send := func(kind Kind, session string) Code {
		return codeOf(s.answer(&Submit{Request: Request{ID: s.id(a), Kind: kind, Target: a, Method: "POST", Path: "/m", Session: session, Boot: "h1"}, Waiter: s.ids}))
	}
	first := s.id(a)
	s.do(&Submit{Request: Request{ID: first, Target: a, Method: "POST", Path: "/m"}, Waiter: "first"})
	for range 2 {
		if code := send(Tell, ""); code != "" {
			t.Fatal("refused before the limit:", code)
		}
	}
	for _, session := range []string{"", "x", NewID(s.now.Wall, 0, "dp", [6]byte{9}).String()} {
		for _, kind := range []Kind{Call, Tell, Promise} {
			if code := send(kind, session); code != CodeMailboxFull {
				t.Errorf("session %q, kind %d: %q, want %s", session, kind, code, CodeMailboxFull)
			}
		}
	}
	running := s.c.sessionOf(s.c.entries[first])
	for _, kind := range []Kind{Call, Tell} {
		if code := send(kind, running); code != "" {
			t.Errorf("what a running request sends is refused: %s", code)
		}
	}
}

// The app that an id carries is two bytes of a hash: the app itself is compared.
func TestIDOfAnotherApp(t *testing.T) {
	s := newSolo(t, Config{})
	own := Target{App: "dp", Type: "A", ID: "x"}
	id := s.id(own)
	foreign := Target{App: "other", Type: "A", ID: "x"}
	s.do(&Submit{Request: Request{ID: id, Target: own, Method: "POST", Path: "/m"}, Waiter: "own"})
	submit := &Submit{Request: Request{ID: id, Target: foreign, Method: "POST", Path: "/m"}, Waiter: "foreign"}
	if got := codeOf(s.answer(submit)); got != CodeBadID {
		t.Errorf("a call of another app under the id of an open one: %q", got)
	}
	if got := codeOf(s.answer(&Cancel{App: "other", ID: id, Waiter: "foreign"})); got != CodeUnknownRequest {
		t.Errorf("another app cancels: %q", got)
	}
	s.c.addHome(&homeEntry{req: s.c.entries[id].req, came: s.c.Seq() + 1}) // as after a step elsewhere
	s.c.keep.place(&s.c.homes[id].node, s.c.Seq(), s.c.homes[id])
	for _, in := range []Input{submit, &Await{App: "other", ID: id, Waiter: "foreign", View: &View{}}, &Cancel{App: "other", ID: id, Waiter: "foreign"}} {
		if got := codeOf(s.answer(in)); got != CodeBadID && got != CodeUnknownRequest {
			t.Errorf("%T of another app about a chain that is away: %q", in, got)
		}
	}
	s.c.dropHome(s.c.homes[id])
	s.host("h1")
	s.do(&Answered{Boot: "h1", Answer: Answer{Attempt: Attempt{ID: id, Number: 1}, Outcome: &Outcome{Status: 200, Body: []byte("1")}}})
	s.do(&Release{App: "other", IDs: []ID{id}})
	if e := s.answer(&Submit{Request: Request{ID: id, Target: own, Method: "POST", Path: "/m"}, Waiter: "again"}); e == nil || e.Outcome == nil {
		t.Errorf("another app dropped the outcome: %+v", e)
	}
	event := s.id(own)
	s.do(&Publish{App: "dp", ID: event, Waiter: "own"})
	for _, over := range []string{"while it is being published", "afterwards"} {
		if got := codeOf(s.answer(&Publish{App: "other", ID: event, Waiter: "foreign"})); got != CodeBadID {
			t.Errorf("an event of another app under the id of one, %s: %q", over, got)
		}
		s.do(&Published{ID: event})
	}
}

// A child that was vouched for by an owner below the fence is refused (P4): the
// parent's next owner has been told what is open here.
func TestChildBelowTheFenceIsRefused(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	b := actorIn(0, 2, "B").target()
	child := func(epoch uint64) Code {
		id := s.id(b)
		v := &Vouched{Flow: id, Parents: []ID{id}, Partition: 1, Epoch: epoch}
		return codeOf(s.answer(&Submit{Request: Request{ID: id, Target: b, Method: "POST", Path: "/m"}, Vouched: v, Waiter: s.ids}))
	}
	if got := child(1); got != "" {
		t.Fatal("refused without a fence:", got)
	}
	s.do(&FenceAsk{From: 1, Epoch: 2})
	if got := child(1); got != CodeAskAgain {
		t.Errorf("below the fence: %q", got)
	}
	if got := child(2); got != "" {
		t.Errorf("at the fence: %q", got)
	}
	// Nor does it borrow the open request of its key.
	borrow := func(key string, epoch uint64) Code {
		id := s.id(b)
		v := &Vouched{Flow: id, Parents: []ID{id}, Partition: 1, Epoch: epoch}
		return codeOf(s.answer(&Submit{Request: Request{ID: id, Target: b, Method: "POST", Path: "/m", Key: key}, Vouched: v, View: &View{}, Waiter: s.ids}))
	}
	if got := borrow("k", 2); got != "" {
		t.Fatal("the first of its key:", got)
	}
	if got := borrow("k", 1); got != CodeAskAgain || len(s.c.borrowings) > 0 {
		t.Errorf("below the fence, with a key: %q", got)
	}
	if got := borrow("k", 2); got != "" || len(s.c.borrowings) != 1 {
		t.Errorf("at the fence, with a key: %q", got)
	}
}

// A key belongs to one life of the app: a call of the next life that comes before the news
// of the purge is a new one, and a method of the life before is answered with neither.
func TestKeyOfAnotherLife(t *testing.T) {
	x := actorIn(0, 2, "A").target()
	caller := NewID(1767225600000, 1, "dp", [6]byte{9, 9, 9})
	of := func(s *solo, generation uint64) (Request, *Effect) {
		r := Request{ID: s.id(x), Kind: Call, Target: x, Method: "POST", Path: "/m", Key: "k", Boot: "h1"}
		return r, s.answer(&Submit{Request: r, View: &View{Applied: s.c.Seq(), Generation: s.c.generation("dp")}, Waiter: r.ID,
			Vouched: &Vouched{Flow: caller, Parents: []ID{caller}, Partition: 1, Epoch: 1, Generation: generation, Step: 1}})
	}
	for _, ended := range []bool{false, true} {
		s := newSolo(t, Config{Partitions: 2})
		s.host("h1")
		of(s, 0)
		if ended {
			s.end(Outcome{Status: 200, Body: []byte("old")})
		}
		if r, e := of(s, 1); e != nil || s.c.entries[r.ID] == nil {
			t.Errorf("ended %v: a call of the new life is answered %+v with what the old one did", ended, e)
		}
		s.end(Outcome{Status: 200, Body: []byte("new")})
		if _, e := of(s, 0); codeOf(e) != CodePurged {
			t.Errorf("ended %v: a method of the old life is answered %+v", ended, e)
		}
	}
}

package runtime

import (
	"fmt"
	"strings"
	"testing"
)

// What is remembered in memory has a bound, and what an app may say of itself.

func TestServicesOfAnApp(t *testing.T) {
	s := newSolo(t, Config{})
	set := func(name, url string, timeout int64) *Effect {
		return s.answer(&SetService{App: "dp", Name: name, URL: url, Timeout: timeout, Waiter: "w"})
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	for i, x := range []struct {
		name, url string
		timeout   int64
		want      Code
	}{
		{"a", "http://a", 99, CodeBadRequest}, {"a", "http://a", 100, ""}, {"a", "", 0, ""}, {"b", long(maxServiceURL), 100, ""}, {"b", long(maxServiceURL + 1), 100, CodeTooLarge},
		{long(maxServiceName), "u", 100, ""}, {long(maxServiceName + 1), "u", 100, CodeTooLarge}, {long(maxServiceName + 1), "", 100, ""},
	} {
		if got := codeOf(set(x.name, x.url, x.timeout)); got != x.want {
			t.Errorf("case %d: %q", i, got)
		}
	}
	if e := set("none", "", 0); e.Value != false {
		t.Error("there was none")
	}
	if e := set("b", "http://b", 200); e.Value != true {
		t.Error("there was one")
	}
	for i := range maxServices - 2 {
		if e := set(fmt.Sprint("s", i), "u", 100); e.Value != false {
			t.Fatalf("service %d: %+v", i, e)
		}
	}
	if got := codeOf(set("one-more", "u", 100)); got != CodeTooLarge {
		t.Errorf("one more: %q", got)
	}
	if got := codeOf(set("b", "http://c", 300)); got != "" {
		t.Errorf("another url: %q", got)
	}
	fs := s.answer(&Query{Kind: QueryServices, Waiter: "w"}).Value.([]ServiceFact)
	if len(fs) != maxServices || fs[0] != (ServiceFact{"dp", "b", "http://c", 300, false}) {
		t.Errorf("%d, the first is %+v", len(fs), fs[0])
	}
}

// The last boots that have ended without having had anything are known.
func TestStrangersAreForgotten(t *testing.T) {
	s := newSolo(t, Config{})
	for i := range maxStrangers + 2 {
		s.do(&HostDown{Boot: fmt.Sprint("x", i)})
		s.do(&HostDown{Boot: fmt.Sprint("x", i)})
	}
	known := func(i int) bool {
		return codeOf(s.answer(&HostJoined{Info: HostInfo{Boot: fmt.Sprint("x", i), App: "dp"}, Waiter: "w"})) == CodeHostLost
	}
	if !known(maxStrangers+1) || !known(2) || known(1) || known(0) || len(s.c.strange) != maxStrangers || len(s.log) != 1 {
		t.Errorf("%d are known, %d records", len(s.c.strange), len(s.log))
	}
}

// The last events that were published are known by their ids.
func TestPublishedAreForgotten(t *testing.T) {
	s := newSolo(t, Config{})
	var ids []ID
	ask := func(id ID) any {
		e := s.answer(&Publish{App: "dp", ID: id, Waiter: "w"})
		if e == nil {
			return nil
		}
		return e.Value
	}
	for i := range maxPublished + 1 {
		id := NewID(s.now.Wall, 0, "dp", [6]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		ids = append(ids, id)
		if ask(id) != true {
			t.Fatalf("event %d may not be published", i)
		}
		s.do(&Published{ID: id})
		s.do(&Published{ID: id, Err: Errorf(CodeInternal, "late")})
	}
	if ask(ids[0]) != true || ask(ids[1]) != false || ask(ids[0]) != nil {
		t.Error("the first is known, or the second is not")
	}
	var heard []any
	for _, e := range s.do(&Published{ID: ids[0], Err: Errorf(CodeTopicMissing, "none")}) {
		heard = append(heard, e.Waiter, codeOf(&e))
	}
	if len(heard) != 2 || heard[1] != CodeTopicMissing || ask(ids[0]) != true {
		t.Errorf("%v hear of it", heard)
	}
	if got := codeOf(s.answer(&Publish{App: "other", ID: ids[0], Waiter: "w"})); got != CodeBadID {
		t.Errorf("of another app: %q", got)
	}
	s.do(&Published{ID: ID{9}})
}

// A host's list of what has stopped keeps the last ones, and knows when others did.
func TestStopsOfAHost(t *testing.T) {
	c := New(Config{})
	c.owned = true
	h := c.host("h")
	for i := range maxStops + 1 {
		c.now.Mono, c.seq = int64(1000+i), uint64(100+i)
		e := &entry{req: Request{ID: ID{byte(i), byte(i >> 8)}, Target: Target{App: "dp", Service: "s"}}, flow: ID{byte(i), byte(i >> 8)}, attempt: 3, host: "h", phase: running}
		h.take(e)
		c.stopOn(h, e, company{})
	}
	l := &h.stops
	if len(l.last) != maxStops/2+1 || l.last[0].at != 1000+maxStops/2 || l.dropped.at != 1000+maxStops/2-1 {
		t.Errorf("%d are listed, the first of %d, others up to %d", len(l.last), l.last[0].at, l.dropped.at)
	}
	for i, x := range []struct {
		at   int64
		seq  uint64
		want int
	}{
		{0, 0, maxStops/2 + 2}, {1000 + maxStops/2 - 1, 0, maxStops/2 + 2}, {1000 + maxStops/2, 0, maxStops/2 + 1}, {0, 100 + maxStops/2 - 1, maxStops/2 + 2},
		{0, 100 + maxStops/2, maxStops/2 + 1}, {1000 + maxStops, 0, 1}, {1001 + maxStops, 0, 0}, {0, 100 + maxStops, 1}, {0, 101 + maxStops, 0},
	} {
		if got := len(l.since(x.at, x.seq)); got != x.want {
			t.Errorf("case %d: %d", i, got)
		}
	}
	n := h.company(l.since(1000+maxStops, 0))
	if n != (company{flows: 1, doubted: 1, sole: ID{0, 1}}) {
		t.Errorf("the last one was %+v", n)
	}
	if n := h.company(l.since(0, 0)); n.flows != maxStops/2+2 || n.suspects != 1 || n.sole != (ID{}) {
		t.Errorf("all were %+v", n)
	}
	if len(h.flows) != 0 || h.beside != (company{}) || h.bytes != 0 {
		t.Errorf("%v is left", h.flows)
	}
}

// A member that leaves twice, or never was one, leaves nothing.
func TestUnknownMemberLeaves(t *testing.T) {
	s := newSolo(t, Config{Partitions: 2})
	sub := Subscription{Actor: actorIn(1, 2, "A"), ID: "s", Path: "/p", Topic: "t", Group: "g"}
	for n := range uint64(2) {
		s.do(&Deliver{From: 1, N: n + 1, Payload: encode(nil, &parcel{kind: msgLeave, sub: sub})})
	}
	if s.c.in[1] != 2 || len(s.c.apps) != 0 {
		t.Errorf("message %d, %d apps", s.c.in[1], len(s.c.apps))
	}
}

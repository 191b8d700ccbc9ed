package runtime

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Rules that are functions of their arguments, at their edges.

func TestFieldsOfAConnection(t *testing.T) {
	h := Header{"Connection": {"close, x-a", "X-B"}, "X-A": {"1"}, "X-B": {"1"}, "X-C": {"1"}, "Te": {"1"}, "Upgrade": {"1"}, "Keep-Alive": {"1"}, "Kar-Attempt": {"1"}}
	h.DropHopByHop()
	if len(h) != 2 || h["X-C"] == nil || h["Kar-Attempt"] == nil {
		t.Errorf("%v is left", h)
	}
	for name, want := range map[string]string{"x-a": "X-A", "Content-type": "Content-Type", "x_b!": "X_b!", "": "", "a b": "", "a:b": "", "a\x7f": "", "ä": "", "a~": "A~", "a\x21": "A!"} {
		if got, ok := FieldName(name); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", name, got, ok)
		}
	}
	for v, want := range map[string]string{"plain": "plain", "a\r\nb": "a  b", "a\tb\x1fc\x7f": "a\tb c ", "": "", "é ": "é "} {
		if got := FieldValue(v); got != want {
			t.Errorf("%q: %q", v, got)
		}
	}
}

func TestWhatAHostMaySay(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	types := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint(i))
		}
		return list
	}
	for i, c := range []struct {
		h  HostInfo
		ok bool
	}{
		{HostInfo{Actors: types(maxHostTypes)}, true}, {HostInfo{Actors: types(maxHostTypes + 1)}, false},
		{HostInfo{Actors: []string{long(maxTypeBytes)}}, true}, {HostInfo{Actors: []string{long(maxTypeBytes + 1)}}, false},
		{HostInfo{Name: long(maxNameBytes)}, true}, {HostInfo{Name: long(maxNameBytes + 1)}, false}, {HostInfo{Boot: long(maxNameBytes + 1)}, false},
		{HostInfo{App: long(maxNameBytes + 1)}, false}, {HostInfo{Service: long(maxNameBytes + 1)}, false}, {HostInfo{URL: long(maxNameBytes + 1)}, false},
	} {
		if err := c.h.Check(); (err == nil) != c.ok || err != nil && err.Code != CodeBadRequest {
			t.Errorf("case %d: %v", i, err)
		}
	}
	h := HostInfo{Actors: []string{"A", "B", "A"}}
	if err := h.Check(); err != nil || !reflect.DeepEqual(h.Actors, []string{"A", "B"}) {
		t.Error(h.Actors, err)
	}
	if a, b := (HostInfo{App: "a", Draining: true, Frozen: true}), (HostInfo{App: "a"}); !a.sameOffer(b) || a.sameOffer(HostInfo{App: "b"}) {
		t.Error("only flags make no other offer")
	}
	m := &Invoke{Attempt: Attempt{ID: ID{15: 7}, Step: 12}}
	m.MarkStep()
	if id := m.Attempt.ID.String(); m.Header.Get("Kar-Step") != "12" || m.Header.Get("Kar-Idempotency-Key") != id+"-12" {
		t.Error(m.Header)
	}
}

func TestIDText(t *testing.T) {
	id := NewID(1767225600000, 7, "dp", [6]byte{1, 2, 3, 4, 5, 255})
	if got, err := ParseID(id.String()); err != nil || got != id || got.Partition() != 7 || got.Millis() != 1767225600000 || !got.OfApp("dp") || got.OfApp("pd") || got.IsZero() {
		t.Error(got, err)
	}
	for _, s := range []string{"", id.String()[1:], id.String() + "0", strings.ToUpper(id.String()), strings.Repeat("u", 26), strings.Repeat("i", 26)} {
		if _, err := ParseID(s); codeIn(err) != CodeBadID {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, want := range map[string]string{"abc": "abc", "abcd": "abc…", "ab": "ab"} {
		if got := clip(s, 3); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
	if PartitionOf(Target{App: "a", Service: "s"}, "", ID{}, 4) != 0 || !(ID{}).IsZero() {
		t.Error("without an id there is one place")
	}
}

// Data is placed by these; they are for ever.
func TestPlacesStay(t *testing.T) {
	id := ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	got := fmt.Sprint(
		hash64("a", "b"), mix(12345), PartitionOf(Target{App: "dp", Service: "s"}, "", id, 64), PartitionOf(Target{App: "dp", Service: "s"}, "k", id, 64),
		ActorPartition(Actor{"dp", "A", "1"}, 64), AppPartition("dp", 64), GroupPartition(&Subscription{Group: "g", Topic: "t"}, 64),
		GroupPartition(&Subscription{Actor: Actor{"dp", "A", "1"}, Topic: "t"}, 64), bodyHash(&Request{Method: "POST", Path: "/p", Body: []byte("b")}),
		bodyHash(&Request{Method: "POST", Path: "/p\x00", Body: []byte("b")}), appHash("dp"),
	)
	if want := "11448244716732072723 1716623506685013753 16 31 8 31 12 8 710645065489257220 15513596901211212866 59309"; got != want {
		t.Errorf("places have moved: %s", got)
	}
}

func TestSessionsThatParse(t *testing.T) {
	a, b := ID{1}.String(), ID{15: 2}.String()
	ok := a + ":" + b + ":13.14.15.16"
	p, err := parseSession(ok)
	if err != nil || p != (sessionParts{ID{1}, ID{15: 2}, 13, 14, 15, 16, true}) {
		t.Error(p, err)
	}
	if p, ok := SessionPartition(ok); p != 13 || !ok {
		t.Error(p, ok)
	}
	for _, s := range []string{a, a + ":" + b, a + ":" + b + ":", "x:" + b + ":3.4.5.6", a + ":x:3.4.5.6", a + ":" + b + ":3.4.5", a + ":" + b + ":3.4.5.6.7", a + ":" + b + ":3.4.x.6", ID{}.String() + ":" + b + ":3.4.5.6", "", a + ":" + b + ":3.4.5.1f"} {
		p, err := parseSession(s)
		if err != nil || p.ours {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
		if flow, _ := parseQuiet(strings.Split(s, ":")[0]); p.flow != flow {
			t.Errorf("%q: flow %s", s, p.flow)
		}
		if _, ok := SessionPartition(s); ok {
			t.Errorf("%q names a partition", s)
		}
	}
	for s, bad := range map[string]bool{"a b": true, "a/b": true, "é": true, "a\n": true, "azAZ09._:-": false, strings.Repeat("a", 512): false, strings.Repeat("a", 513): true, "@": true, "[": true, "`": true, "{": true} {
		if _, err := parseSession(s); (err != nil) != bad || err != nil && err.Code != CodeBadSession {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestPathsToActors(t *testing.T) {
	for path, want := range map[string]bool{
		"/kar/impl": true, "/kar/impl/v1/actor": true, "/x/../kar/impl/a": true, "/kar/./impl": true, "/kar/%69mpl": true, "/%6bar/impl": true, `\kar\impl`: true,
		"/kar;a=b/impl;c": true, "/../kar/impl": true, "/kar%2fimpl": true, "/%zz/../kar%2Fimpl": true, "/%zz/%2e%2E/kar%5Cimpl": true,
		"/kar": false, "/impl": false, "/a/kar/impl": false, "/kar/a/impl": false, "/kar/implement": false, "/kars/impl": false, "/kar/x?y=/kar/impl": false, "": false, "/%": false,
	} {
		if LeadsToActors(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
	for path, want := range map[string]bool{
		"/a/.": true, "/..": true, "/a/%2e%2e/b": true, "/a/..;x/b": true, `/a\..\b`: true, "/%zz/%2E": true, "/a.b": false, "/...": false, "/a?x=/../": false, "/a%20": false, "/": false,
	} {
		if HasDotSegments(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
	for i, c := range []struct {
		t    Target
		path string
		ok   bool
	}{
		{Target{Type: "A"}, "/a/..", false}, {Target{Type: "A"}, "/kar/impl", true}, {Target{Service: "s"}, "/a/..", true}, {Target{Service: "s"}, "/kar/impl", false},
	} {
		if err := checkPath(c.t, c.path, CodeBadRequest); (err == nil) != c.ok || err != nil && err.Code != CodeBadRequest {
			t.Errorf("case %d: %v", i, err)
		}
	}
}

func TestTailCalls(t *testing.T) {
	id := ID{15: 1}
	actor := &entry{req: Request{ID: id, Target: Target{App: "dp", Type: "A", ID: "1"}}}
	service := &entry{req: Request{ID: id, Target: Target{App: "dp", Service: "s"}}}
	json, kar := Header{"Content-Type": {"application/json"}}, Header{"Content-Type": {"application/kar+json; x=y"}}
	for i, c := range []struct {
		e      *entry
		o      Outcome
		ok     bool
		bad    Code
		method string
		path   string
		load   string
		frees  bool
	}{
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"actorType":"A","actorId":"2","path":"m","payload":"[1]","releaseLock":"True"}}`)}, true, "", "POST", "/m", "[1]", true},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m","payload":{"a":1},"method":"get","releaseLock":false}}`)}, true, "", "GET", "/m", `{"a":1}`, false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m","releaseLock":true}}`)}, true, "", "POST", "/m", "", true},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m","releaseLock":"no"}}`)}, true, "", "POST", "/m", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m","releaseLock":7}}`)}, true, "", "POST", "/m", "", false},
		{actor, Outcome{Status: 201, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m"}}`)}, false, "", "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":false,"value":{"serviceName":"s","path":"/m"}}`)}, false, "", "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,`)}, false, "", "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"value":1}`)}, false, "", "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":7}`)}, false, CodeBadTailCall, "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"path":"/m"}}`)}, false, CodeBadTailCall, "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"actorType":"A","serviceName":"s","path":"/m"}}`)}, false, CodeBadTailCall, "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s"}}`)}, false, CodeBadTailCall, "", "", "", false},
		{actor, Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"actorType":"A","actorId":"1","path":"/../m"}}`)}, false, CodeBadTailCall, "", "", "", false},
		{service, Outcome{Status: 200, Header: json, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m"}}`)}, false, "", "", "", "", false},
		{service, Outcome{Status: 200, Header: kar, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/m"}}`)}, true, "", "POST", "/m", "", false},
		{service, Outcome{Status: 200, Header: kar, Body: []byte(`{"tailCall":true,"value":{"serviceName":"s","path":"/kar/impl/x"}}`)}, false, CodeBadTailCall, "", "", "", false},
	} {
		tc, ok, err := tailCallOf(c.e, &c.o)
		if ok != c.ok || (err != nil) != (c.bad != "") || err != nil && (err.Code != c.bad || err.ID != id) {
			t.Errorf("case %d: %v, %v", i, ok, err)
		} else if ok && (tc.method() != c.method || tc.path() != c.path || tc.payload() != c.load || tc.release() != c.frees) {
			t.Errorf("case %d: %s %s %s %v", i, tc.method(), tc.path(), tc.payload(), tc.release())
		}
	}
	for body, want := range map[string]string{`{"a":1}`: `{"value":{"a":1}}`, "text": `{"value":"text"}`, "": `{"value":""}`} {
		o := Outcome{Status: 200, Body: []byte(body)}
		if wrap(&o); string(o.Body) != want || o.Status != 200 || o.Header.Get("Content-Type") != "application/kar+json" {
			t.Errorf("%q: %s", body, o.Body)
		}
	}
}

func TestDeadLetters(t *testing.T) {
	ex := []byte(`{"error":true}`)
	for i, c := range []struct {
		kind Kind
		o    Outcome
		want bool
	}{
		{Call, Outcome{Status: 500}, false}, {Call, Outcome{Status: 410, Code: CodeCancelled}, false}, {Promise, Outcome{Status: 410, Code: CodeCancelled}, false},
		{Tell, Outcome{Status: 410, Code: CodeCancelled}, true}, {Remove, Outcome{Status: 410, Code: CodeCancelled}, true},
		{Tell, Outcome{Status: 400}, true}, {Tell, Outcome{Status: 399}, false}, {Promise, Outcome{Status: 400}, true}, {Tell, Outcome{Status: 200, Body: ex}, true},
		{Tell, Outcome{Status: 201, Body: ex}, false}, {Tell, Outcome{Status: 200, Body: []byte(`{"error":false}`)}, false}, {Tell, Outcome{Status: 200, Body: []byte(`["error"`)}, false}, {Call, Outcome{Status: 200, Body: ex}, false},
	} {
		if got := deadLetter(c.kind, &c.o); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
	for status, ok := range map[int]bool{199: false, 200: true, 599: true, 600: false, 0: false} {
		if o := (&Outcome{Status: status}).ofHost(); (o.Status == status) != ok {
			t.Errorf("status %d became %d", status, o.Status)
		}
	}
	if (*Outcome)(nil).ofHost() != nil {
		t.Error("nothing is an outcome")
	}
}

func TestKeysOfTheStore(t *testing.T) {
	a := Actor{"dp", "A", "1"}
	p := ActorPrefix(a, 3)
	for _, f := range []Field{{Key: "k", Value: []byte("v")}, {Key: "k", Sub: "s", InMap: true, Value: []byte("v")}, {Key: "", Sub: "", InMap: true}} {
		key := string(FieldKey(p, &f))
		if got, ok := fieldOf(string(p), key, f.Value); !ok || !reflect.DeepEqual(got, f) {
			t.Errorf("%+v came back as %+v", f, got)
		}
		if f.InMap != strings.HasPrefix(key, string(MapPrefix(p, f.Key))) {
			t.Errorf("%+v does not lie where it should", f)
		}
		if got, ok := ActorOfKey([]byte(key), "dp", 3); !ok || got != a {
			t.Errorf("%+v is of %v", f, got)
		}
	}
	for _, cut := range []string{"", "k", "m\x01k", "m\x05k"} {
		if f, ok := fieldOf(string(p), string(p)+cut, nil); ok {
			t.Errorf("%q is %+v", cut, f)
		}
	}
	for n := range p {
		if got, ok := ActorOfKey(p[:n], "dp", 3); ok {
			t.Errorf("%d bytes are of %v", n, got)
		}
	}
	if !strings.HasPrefix(string(p), string(StatePrefix("dp", 3, "A"))) || !strings.HasPrefix(string(p), string(StatePrefix("dp", 3, ""))) || strings.HasPrefix(string(p), string(StatePrefix("dp", 3, "B"))) {
		t.Error("types lie under their app")
	}
	fs := []Field{{Key: "b"}, {Key: "a", Sub: "y", InMap: true}, {Key: "a", Sub: "x", InMap: true}, {Key: "a"}}
	if sortFields(fs); fs[0].Key != "a" || fs[0].InMap || fs[1].Sub != "x" || fs[2].Sub != "y" || fs[3].Key != "b" {
		t.Error(fs)
	}
	key := func(f Field) []byte { return FieldKey(p, &f) }
	one, sub := Field{Key: "k"}, Field{Key: "k", Sub: "s", InMap: true}
	for i, c := range []struct {
		op     StateOp
		keys   [][]byte
		prefix []byte
	}{
		{StateOp{Verb: StateGet, Key: "k"}, [][]byte{key(one)}, nil}, {StateOp{Verb: StateSet, Key: "k", Sub: "s", InMap: true}, [][]byte{key(sub)}, nil},
		{StateOp{Verb: StateDelete, Key: "k"}, [][]byte{key(one)}, nil}, {StateOp{Verb: StateMap, Key: "k"}, nil, MapPrefix(p, "k")},
		{StateOp{Verb: StateMapClear, Key: "k"}, nil, MapPrefix(p, "k")}, {StateOp{Verb: StateAll}, nil, p}, {StateOp{Verb: StateClear}, nil, p},
		{StateOp{Verb: StateUpdate, Sets: []Field{one}, Removes: []Field{sub, one}}, [][]byte{key(sub), key(one), key(one)}, nil},
	} {
		c.op.Actor = a
		if keys, prefix := StateKeys(&c.op, 3); !reflect.DeepEqual(keys, c.keys) || !reflect.DeepEqual(prefix, c.prefix) {
			t.Errorf("case %d: %q, %q", i, keys, prefix)
		}
		if reads := c.op.Verb == StateGet || c.op.Verb == StateMap || c.op.Verb == StateAll; OnlyReads(&StateInput{Op: c.op}) != reads {
			t.Errorf("case %d reads: %v", i, !reads)
		}
	}
	if OnlyReads(&Query{}) {
		t.Error("a query sees what was told before")
	}
	k := keyUse{id: ID{15: 4}, body: 5, gen: 6}
	if id, ok := KeyUseID(encode(nil, &k)); !ok || id != k.id {
		t.Error(id, ok)
	}
	if _, ok := KeyUseID([]byte{1}); ok {
		t.Error("nonsense names a request")
	}
}

func TestWhoShouldOwn(t *testing.T) {
	live := []Member{{Node: "a", Level: 2}, {Node: "b", Level: 1}, {Node: "c", Level: 3}}
	if MeshLevel(live) != 1 || MeshLevel(live[2:]) != 3 || MeshLevel(nil) != 0 || MeshLevel([]Member{{Node: "x"}}) != 1 {
		t.Error("the least of all counts")
	}
	best := Preferred(5, live)
	for i := range live {
		live[i].Leaving = live[i].Node == best
	}
	if next := Preferred(5, live); next == best || next == "" {
		t.Errorf("%q leaves, %q comes", best, next)
	}
	for i := range live {
		live[i].Leaving = true
	}
	if Preferred(5, live) != "" {
		t.Error("nobody is there")
	}
	me := []Member{{Node: "a"}}
	for i, c := range []struct {
		v    OwnershipView
		want OwnershipStep
	}{
		{OwnershipView{Me: "a", Live: me, Owner: "a"}, OwnershipKeep}, {OwnershipView{Me: "b", Live: me}, OwnershipKeep}, {OwnershipView{Me: "a", Live: me}, OwnershipKeep},
		{OwnershipView{Me: "a", Live: me, Complete: true}, OwnershipClaim}, {OwnershipView{Me: "a", Live: me, Owner: "gone"}, OwnershipClaim},
		{OwnershipView{Me: "a", Live: []Member{{Node: "a"}, {Node: "z", Leaving: true}}, Owner: "z"}, OwnershipAsk},
	} {
		if got := NextOwnershipStep(&c.v); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
	if v := (OwnershipView{Partition: 5, Me: "z", Live: me}); !MayHandOver(&v, "a", 1, 1) || MayHandOver(&v, "b", 1, 1) {
		t.Error("it goes to whom it belongs")
	}
	claim := EncodeRecord(&Record{Epoch: 7, Owner: 1, Body: &claimed{node: "a"}})
	if n, ok := ClaimEpoch(claim); n != 7 || !ok {
		t.Error(n, ok)
	}
	other := EncodeRecord(&Record{Epoch: 7, Owner: 1, Seq: 3, Body: &alive{}})
	if n, ok := ClaimEpoch(other); n != 0 || ok {
		t.Error(n, ok)
	}
	head := EncodeRecord(&Record{Epoch: 7, Owner: 1, Seq: 3, Body: &header{mesh: "m", at: 99}})
	if !IsHeader(head) || IsHeader(other) || IsHeader(head[:1]) || HeaderTime(head) != 99 || HeaderTime(other) != 0 || HeaderTime(head[:2]) != 0 {
		t.Error("what is a header, and when")
	}
	c := Caller{App: "a"}
	if !c.MayActFor("a") || c.MayActFor("b") || !(Caller{}).MayActFor("b") {
		t.Error("an app acts for itself")
	}
	if CallerOf(context.Background()) != (Caller{}) || CallerOf(WithCaller(context.Background(), c)) != c {
		t.Error("the caller is lost")
	}
}

// WaiterOf knows every input that has a waiter.
func TestWaiters(t *testing.T) {
	for _, in := range []Input{
		&Submit{}, &Await{}, &Cancel{}, &CancelAll{}, &Vouch{}, &HostJoined{}, &HostsBeat{}, &StateInput{}, &SetReminder{}, &CancelReminders{},
		&Subscribe{}, &Publish{}, &Unsubscribe{}, &DeliverEvents{}, &Query{}, &Purge{}, &Drain{}, &SetService{},
	} {
		reflect.ValueOf(in).Elem().FieldByName("Waiter").Set(reflect.ValueOf("w"))
		if WaiterOf(in) != "w" {
			t.Errorf("nobody waits for %T", in)
		}
		if _, joined := in.(*HostJoined); Question(in) == joined {
			t.Errorf("%T is a question: %v", in, joined)
		}
	}
	if WaiterOf(&Tick{}) != nil || Question(&Tick{}) || Question(&Query{}) {
		t.Error("nobody asks")
	}
}

func TestTimesOfReminders(t *testing.T) {
	s := newSolo(t, Config{})
	a := Actor{"dp", "A", "1"}
	at := func(year int) int64 { return time.Date(year, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli() }
	for i, c := range []struct {
		r    Reminder
		want Code
	}{
		{Reminder{Due: at(9999)}, ""}, {Reminder{Due: at(9999) + 1000}, CodeBadReminder}, {Reminder{Due: at(0) + 1000, Period: 0}, ""}, {Reminder{Due: at(0)}, CodeBadReminder},
		{Reminder{Due: at(2030), Period: -1}, CodeBadReminder}, {Reminder{Due: at(2030), Path: "/.."}, CodeBadReminder},
	} {
		c.r.Actor, c.r.ID = a, fmt.Sprint(i)
		if got := codeOf(s.answer(&SetReminder{Reminder: c.r, Waiter: "w"})); got != c.want {
			t.Errorf("case %d: %q", i, got)
		}
	}
	for period, want := range map[int64]int64{0: 0, 1: 1_000_000, 999_999: 1_000_000, 1_000_001: 1_000_001, 1 << 62: 1 << 62, 1<<62 + 1: 1 << 62} {
		s.answer(&SetReminder{Reminder: Reminder{Actor: a, ID: "p", Due: at(2030), Period: period}, Waiter: "w"})
		rs := s.answer(&Query{Kind: QueryReminders, Actor: a, ID: "p", Waiter: "w"}).Value.([]Reminder)
		if len(rs) != 1 || rs[0].Period != want {
			t.Errorf("period %d: %+v", period, rs)
		}
	}
	const ms, day = int64(time.Millisecond), int64(86_400_000)
	for i, c := range []struct {
		r                        Reminder
		now                      int64
		due, count, next, nextNS int64
	}{
		{Reminder{Due: 100}, 500, 100, 1, 0, 0},
		{Reminder{Due: 100, Period: 100 * ms}, 100, 100, 1, 200, 0},
		{Reminder{Due: 100, Period: 100 * ms}, 299, 200, 2, 300, 0},
		{Reminder{Due: 100, Period: 100 * ms}, 300, 300, 3, 400, 0},
		{Reminder{Due: 100, Period: 100 * ms, CatchUp: true}, 300, 100, 1, 200, 0},
		{Reminder{Due: 100, TargetNS: 600_000, Period: ms + 500_000}, 100, 100, 1, 102, 100_000},
		{Reminder{Due: 100, TargetNS: 600_000, Period: ms + 500_000}, 103, 103, 3, 105, 100_000},
		{Reminder{Due: 0, Period: day * ms}, 1 << 42, 1 << 42 / day * day, 1<<42/day + 1, (1<<42/day + 1) * day, 0},
		{Reminder{Due: 0, Period: day * ms}, 1<<42 + 1, 1<<42 + 1, 1, 1<<42 + 1 + day, 0},
	} {
		due, count, next, nextNS := c.r.dueTimes(c.now)
		if due != c.due || count != c.count || next != c.next || nextNS != c.nextNS {
			t.Errorf("case %d: %d, %d, %d, %d", i, due, count, next, nextNS)
		}
	}
}

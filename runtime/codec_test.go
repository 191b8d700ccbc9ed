package runtime

import (
	"bytes"
	"errors"
	"testing"
)

func sampleRecords() []*Record {
	id := NewID(1_900_000_000_000, 3, "app", [6]byte{1, 2, 3, 4, 5, 6})
	req := Request{
		ID: id, Kind: Promise, Target: Target{App: "a/ü", Type: "T", ID: "%2F"}, Method: "POST", Path: "/m?x=1",
		Header: Header{"X-A": {"1", "2"}, "Accept": {""}}, Body: []byte{0, 255}, Boot: "b", Key: "k",
		NoHost: 1, Busy: 2, Deadline: 3, NotBefore: -4, CancelWithCaller: true,
	}
	actor := req.Target.Actor()
	out := Outcome{Status: 201, Header: Header{"Content-Type": {"x"}}, Body: []byte{}, Code: CodeCancelled}
	var rs []*Record
	for _, b := range []message{
		&header{mesh: "m", partitions: 4, out: []counter{{1, 2}}, in: []counter{{2, 9}}, apps: []appChanged{{app: "a", generation: 3}}, lost: []hostLost{{boot: "x", at: 5}}, at: 6, level: 1, changed: 8, floor: 3, node: "n", address: "http://n:1", window: 9, youngest: 2, terms: 4},
		&claimed{node: "n", mesh: "m", partitions: 4, at: 7, address: "http://n:1", window: 9, youngest: 2},
		&accepted{req: req, flow: id, home: 2, step: 3, parents: []ID{id, id}, parentPart: 1, parentEpoch: 8, at: 9, reminder: "r", nextDue: 10, nextExists: true, count: 2, due: 11, group: "g", offset: 12},
		&started{id: id, step: 1, attempt: 2, host: "h", grace: 6000, actor: actor, among: 3, tried: 2, reminder: "r", due: 4, count: 5, nextDue: 6, nextNS: 7},
		&completed{id: id, outcome: out, unplaced: true, actor: actor, storeTTL: 5, at: 6, app: "a", change: id},
		&continued{id: id, step: 2, target: req.Target, method: "PUT", path: "/p", header: Header{"A": {"b"}}, body: []byte("x"), keepLock: true},
		&unplaced{actor}, &hostLost{"b", "gone", 3, company{4, 5, 6, id}, []halt{{id, 7, true}}, true}, &stateChanged{actor: actor, clear: true, gen: 3, set: []Field{{Key: "k", Sub: "s", InMap: true, Value: []byte{}}, {Key: "gone"}}, done: done{id: id, at: 1, yes: true, n: 2, added: 3, removed: 4}},
		&reminderSet{Reminder{Actor: actor, ID: "r", Path: "/p", Due: 5, Period: 6, Data: []byte("[]"), CatchUp: true, TargetNS: 7}, done{}},
		&reminderGone{actor, []string{"a", ""}, done{}}, &subscribed{Subscription{Actor: actor, ID: "s", Topic: "t", Next: -1}, done{}}, &unsubscribed{actor, []string{"s"}, done{}},
		&appChanged{app: "a", generation: 2, listed: true, services: []serviceFact{{"n", "http://x", 5, true}}, from: 2, at: 3, done: done{id: id, at: 1, yes: true}}, &keptApp{"a", 1, true, true, 4}, &serviceSet{"a", serviceFact{"n", "http://x", 5, true}, true, done{id: id, at: 1}}, &fenced{1, 2}, &cancelled{id},
		&received{}, &delivered{"g", 5, id}, &alive{}, &keptIDs{[]ID{id}}, &keptOut{1, 2, []byte("p")}, &released{[]ID{id}}, &raised{2}, &wished{id}, &keptPast{id, 1, 2}, &borrowed{id: id, lent: id, parents: []ID{id}, part: 1, epoch: 2, step: 3, flow: id}, &waived{[]ID{id}}, &cleared{id, "a", 3, 4}, &purged{[]ID{id}},
		&keptActor{actor: actor, host: "h", zombies: []zombie{{id: id, attempt: 1, host: "h"}}, stale: true},
		&keptRequest{accepted: accepted{req: req, flow: id, step: 2}, order: 9, came: 8, attempt: 3, host: "h", epoch: 4, phase: uint64(running), cancelled: true},
		&keptRequest{accepted: accepted{req: Request{ID: id}}, ended: true, outcome: out},
		&keptReminder{Reminder{Actor: actor, ID: "r"}, id}, &keptGroup{members: []Subscription{{Actor: actor, ID: "s"}}, next: 4, life: 3, more: true},
	} {
		rs = append(rs, &Record{Epoch: 5, Owner: 6, Seq: 7, ViaFrom: 1, ViaN: 2, Out: []OutMessage{{3, 4, []byte("out")}}, Body: b})
	}
	return rs
}

// Every kind of record comes back as it was written.
func TestRecordsRoundTrip(t *testing.T) {
	for _, r := range sampleRecords() {
		b := EncodeRecord(r)
		got, err := DecodeRecord(b)
		if err != nil {
			t.Fatalf("%T: %v", r.Body, err)
		}
		if kindOf(got.Body) != kindOf(r.Body) || !bytes.Equal(EncodeRecord(got), b) {
			t.Errorf("%T: %+v became %+v", r.Body, r.Body, got.Body)
		}
	}
}

// A record of a later version: unknown fields are skipped, an unknown kind is refused.
func TestLaterVersions(t *testing.T) {
	e := envelope{kind: 60, epoch: 1, message: &alive{}}
	var newer *Error
	if _, err := DecodeRecord(encode(nil, &e)); !errors.As(err, &newer) || newer.Code != CodeNewerFormat {
		t.Errorf("an unknown kind: %v", err)
	}
	b := encode(nil, &started{step: 1, attempt: 2, host: "h"})
	b = append(b, 40<<1|1, 3, 'n', 'e', 'w', 100, 200, 1)
	var s started
	if err := decode(b, &s); err != nil || s.host != "h" || s.attempt != 2 {
		t.Errorf("unknown fields: %v %+v", err, s)
	}
}

// No bytes make the decoder panic, and what it takes it writes again the same way.
func FuzzDecodeRecord(f *testing.F) {
	for _, r := range sampleRecords() {
		f.Add(EncodeRecord(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again := EncodeRecord(r)
		r2, err := DecodeRecord(again)
		if err != nil || !bytes.Equal(EncodeRecord(r2), again) {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

// No session string makes the parser panic, and ours always parse.
func FuzzSession(f *testing.F) {
	f.Add("a:b")
	f.Add("06h03pfpd4000pjqdyymq3tx8g:06h03pfpd4000pjqdyymq3tx8g:0.0.1.3")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseSession(s)
		if err == nil && p.ours && (p.flow.IsZero() || len(s) > 512) {
			t.Fatalf("%q: %+v", s, p)
		}
	})
}

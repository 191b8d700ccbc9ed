package runtime

import "testing"

// A copy of an event (one of the same Kar-Publish-Id) is no event of its own, whoever
// has joined or left the group in between, wherever the members are, over a new owner
// and a trim as well.
func TestCopyOfAnEventAfterAnotherIsMember(t *testing.T) {
	const partitions = 4
	sub := Subscription{ID: "s", Path: "/m", Topic: "t", Group: "g"}
	home := GroupPartition(&sub, partitions)
	member := func(here bool) Subscription {
		for _, id := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
			if s := sub; (ActorPartition(Actor{"dp", "A", id}, partitions) == home) == here {
				s.Actor = Actor{"dp", "A", id}
				return s
			}
		}
		panic("none")
	}
	for _, firstHere := range []bool{true, false} {
		s := newSolo(t, Config{Partitions: partitions, Partition: home})
		change := func(here bool, kind uint64) {
			m := member(here)
			switch p := ActorPartition(m.Actor, partitions); {
			case !here:
				s.do(&Deliver{From: p, N: s.c.in[p] + 1, Payload: encode(nil, &parcel{kind: kind, sub: m})})
			case kind == msgJoin:
				s.do(&Subscribe{Subscription: m, Waiter: 1})
			default:
				s.do(&Unsubscribe{Actor: m.Actor, Waiter: 1})
			}
		}
		m := member(true)
		key := s.c.groupKey(&m)
		var ids []ID
		deliver := func(offset int) (ran int) {
			begin := len(s.log)
			for i, id := range ids {
				s.do(&DeliverEvents{Group: key, From: int64(offset + i), Events: []Event{PublishedAs(id, "t", Event{Offset: int64(offset + i), Body: []byte("{}")})}})
			}
			for _, b := range s.log[begin:] {
				r, err := DecodeRecord(b)
				if err != nil {
					t.Fatal(err)
				}
				if a, ok := r.Body.(*accepted); ok {
					if ran++; a.req.ID.Partition() != home {
						t.Errorf("%s is accepted in partition %d", a.req.ID, home)
					}
				}
				for _, o := range r.Out {
					var p parcel
					if decode(o.Payload, &p) == nil && p.kind == msgTell {
						if ran++; p.req.ID.Partition() != o.To {
							t.Errorf("%s is sent to partition %d", p.req.ID, o.To)
						}
					}
				}
			}
			return ran
		}
		for i := range 6 { // some from long ago
			ids = append(ids, NewID(s.now.Wall-int64(i)*1_000_000, 0, "dp", [6]byte{byte(i), 7}))
		}
		change(firstHere, msgJoin)
		if n := deliver(0); n != len(ids) {
			t.Fatalf("%d of %d events ran", n, len(ids))
		}
		change(!firstHere, msgJoin)
		if n := deliver(10); n != 0 {
			t.Errorf("the first member is here: %v. After another has joined %d of %d ran again", firstHere, n, len(ids))
		}
		change(firstHere, msgLeave)
		if n := deliver(20); n != 0 {
			t.Errorf("the first member is here: %v. After it has left %d of %d ran again", firstHere, n, len(ids))
		}
		s.do(&Mark{})
		cut, seq := len(s.log)-1, s.c.Seq()
		for s.c.OldestLive() < seq {
			s.do(&Keep{Before: seq, Limit: 100})
		}
		s.log = s.log[cut:]
		s.reown()
		if n := deliver(30); n != 0 {
			t.Errorf("the first member is here: %v. For a new owner %d of %d ran again", firstHere, n, len(ids))
		}
	}
}

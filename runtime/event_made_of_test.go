package runtime

import (
	"slices"
	"testing"
)

// Records that somebody made of an event that KAR has published have its fields, and are
// events of their own; so are those that have a field of the name from elsewhere.
func TestEventsMadeOfOne(t *testing.T) {
	s := newSolo(t, Config{Partitions: 1})
	for _, id := range []string{"1", "2", "3"} {
		s.do(&Subscribe{Subscription: Subscription{Actor: Actor{"dp", "A", id}, ID: "s", Path: "/m", Topic: "dst", Group: "g"}, Waiter: id})
	}
	key := s.c.groupCursors("", 0)[0].Key
	plain := Event{Header: Header{"ce_type": {"a", "b"}, "none": {}}, Body: []byte(`"x"`), Key: []byte("k")}
	first := PublishedAs(NewID(s.now.Wall, 0, "dp", [6]byte{1}), "dst", plain)
	elsewhere := PublishedAs(NewID(s.now.Wall, 0, "dp", [6]byte{2}), "src", plain)
	with := func(ev Event, change func(*Event)) Event {
		header := Header{}
		for name, values := range ev.Header {
			if len(values) > 0 { // as a record of Kafka
				header[name] = slices.Clone(values)
			}
		}
		ev.Header = header
		change(&ev)
		return ev
	}
	same := func(*Event) {}
	offset := int64(0)
	for _, c := range []struct {
		what string
		ev   Event
		runs bool
	}{
		{"an event", first, true},
		{"its copy", with(first, same), false},
		{"its copy under another key", with(first, func(ev *Event) { ev.Key = nil }), false},
		{"one with another body", with(first, func(ev *Event) { ev.Body = []byte(`"y"`) }), true},
		{"one more of those", with(first, func(ev *Event) { ev.Body = []byte(`"y"`) }), true},
		{"one with another field", with(first, func(ev *Event) { ev.Header["n"] = []string{"1"} }), true},
		{"one with a value less", with(first, func(ev *Event) { ev.Header["ce_type"] = []string{"a"} }), true},
		{"one with the values in one", with(first, func(ev *Event) { ev.Header["ce_type"] = []string{"ab"} }), true},
		{"an event of another topic, handed on", elsewhere, true},
		{"and again", elsewhere, true},
		{"one with an id alone", with(plain, func(ev *Event) { ev.Header[PublishID] = []string{NewID(s.now.Wall, 0, "dp", [6]byte{3}).String()} }), true},
		{"and again", with(plain, func(ev *Event) { ev.Header[PublishID] = []string{NewID(s.now.Wall, 0, "dp", [6]byte{3}).String()} }), true},
		{"one with something else", with(plain, func(ev *Event) { ev.Header[PublishID] = []string{"."} }), true},
		{"a late copy", first, false},
	} {
		before := s.c.Counts.EventsDelivered
		c.ev.Offset = offset
		s.do(&DeliverEvents{Group: key, From: offset, Events: []Event{c.ev}})
		if ran := s.c.Counts.EventsDelivered > before; ran != c.runs {
			t.Errorf("%s: it ran: %v", c.what, ran)
		}
		offset++
	}
	// Records that were made of one go to all members, not to the one of their origin.
	turns := map[*subEntry]bool{}
	for range 30 {
		ev := elsewhere
		ev.Offset = offset
		mark, _ := s.c.publishedAs("dst", &ev)
		turns[s.c.groups[key].member(&ev, mark)] = true
		offset++
	}
	if len(turns) != 3 {
		t.Errorf("%d of 3 members have a turn", len(turns))
	}
}

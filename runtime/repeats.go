package runtime

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// A sidecar repeats what its app has asked for until it has an answer, under one
// id. Requests are known by their ids anyway; this file is about the rest: changes
// of state, reminders and subscriptions, whose record says under which id they
// were made and how they were answered, and events that are published. A gateway does
// the same with the changes of an app for which it is asked.

// A done is a change that was made under an id, and how it was answered.
type done struct {
	id             ID
	at             int64 // wall clock, ms
	yes            bool  // something was new, or was replaced
	n              int
	added, removed int
}

func (d *done) fields(c *codec) {
	c.id(1, &d.id)
	c.i64(2, &d.at)
	c.bool(3, &d.yes)
	c.int(4, &d.n)
	c.int(5, &d.added)
	c.int(6, &d.removed)
}

// in is the field of a record that makes a change.
func (d *done) in(c *codec, num int) {
	has := !d.id.IsZero()
	c.msg(num, &has, d)
}

// doneAs is what the record of a change says when it is made under an id.
func (c *Core) doneAs(id ID, d done) done {
	if id.IsZero() {
		return done{}
	}
	d.id, d.at = id, c.now.Wall
	return d
}

// applyDone keeps the answer as plain outcomes are kept: until it is taken, at
// most for the id window. The id is remembered for that long.
func (c *Core) applyDone(seq uint64, app string, d *done) {
	if d.id.IsZero() {
		return
	}
	c.ended.add(c, d.id, seq)
	c.keepEnding(seq, d.id, app, &Outcome{Body: encode(nil, d)}, d.at)
}

// isChange tells an answer that is kept for the repeat of a change from the
// outcome of a request.
func (x *ending) isChange() bool { return x.outcome.Status == 0 }

// repeated answers a change that was made before under the same id, and refuses
// one of which that cannot be known.
func (c *Core) repeated(id ID, app string, waiter any, answer func(*done) any) bool {
	if id.IsZero() {
		return false
	}
	if x := c.endings[id]; x != nil && x.app == app && x.isChange() && !c.dead(&x.node, app) {
		var d done
		if decode(x.outcome.Body, &d) == nil {
			c.replyValue(waiter, answer(&d))
			return true
		}
	}
	if c.ended.has(id) {
		c.refuse(waiter, &Error{CodeOutcomeNotKept, "the change was made, its answer was not kept", id})
		return true
	}
	if err := c.idAge(id); err != nil {
		c.refuse(waiter, err)
		return true
	}
	return false
}

func replaced(d *done) any { return d.yes }

func counted(d *done) any { return d.n }

// Publish asks whether an event may be published under an id. The reply's Value
// is true when the asker is to publish it and to say so with Published, and
// false when it is in its topic. This owner knows what it has let through
// itself; what an earlier one did the subscriptions find out (see tellOf).
type Publish struct {
	App    string
	ID     ID
	Boot   string
	Waiter any
}

// A publishing is an event that is being published, or was.
type publishing struct {
	app     string
	over    bool
	waiters []any
}

// maxPublished bounds how many published events are known by their ids.
const maxPublished = 1 << 16

func (in *Publish) decide(c *Core) {
	if err := c.lostCaller(in.Boot); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	switch p := c.publishings[in.ID]; {
	case p == nil:
		if err := c.idAge(in.ID); err != nil {
			c.refuse(in.Waiter, err)
			return
		}
		c.publishings[in.ID] = &publishing{app: in.App}
		c.replyValue(in.Waiter, true)
	case p.app != in.App:
		c.refuse(in.Waiter, &Error{CodeBadID, "the id was used by another app", in.ID})
	case p.over:
		c.replyValue(in.Waiter, false)
	default:
		p.waiters = append(p.waiters, in.Waiter)
	}
}

// Published says how a publishing that Publish allowed has ended.
type Published struct {
	ID  ID
	Err *Error
}

func (in *Published) decide(c *Core) {
	p := c.publishings[in.ID]
	if p == nil || p.over {
		return
	}
	ws := p.waiters
	p.over, p.waiters = true, nil
	if in.Err != nil {
		delete(c.publishings, in.ID)
		for _, w := range ws {
			c.refuse(w, in.Err)
		}
		return
	}
	c.published = append(c.published, in.ID)
	if len(c.published) > maxPublished {
		delete(c.publishings, c.published[0])
		c.published = c.published[1:]
	}
	for _, w := range ws {
		c.replyValue(w, false)
	}
}

// PublishID is the field of an event that names the id under which it was published, and
// of what that was said: ID.DIGEST. Programs that make records of others hand on the
// fields of those, so that the field alone tells nothing: an event is one that KAR
// published, or a copy of it, when topic and content are those of the digest.
const PublishID = "Kar-Publish-Id"

// PublishedAs is the event with that field.
func PublishedAs(id ID, topic string, ev Event) Event {
	header := make(Header, len(ev.Header)+1)
	for name, values := range ev.Header {
		header[name] = values
	}
	header[PublishID] = []string{publishMark(id, topic, &ev)}
	ev.Header = header
	return ev
}

// publishMark is the value of the field. The key of a record is no part of its content.
func publishMark(id ID, topic string, ev *Event) string {
	h := sha256.New()
	part := func(b []byte) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(b))))
		_, _ = h.Write(b)
	}
	part([]byte(topic))
	part(ev.Body)
	for _, name := range sortedKeys(ev.Header) {
		if name == PublishID {
			continue
		}
		for _, value := range ev.Header[name] {
			part([]byte(name))
			part([]byte(value))
		}
	}
	return id.String() + "." + hex.EncodeToString(h.Sum(nil)[:16])
}

// publishedAs is the mark of an event that was published under an id, and the id; the mark
// is "" for all other events, those included that were made of one.
func (c *Core) publishedAs(topic string, ev *Event) (mark string, id ID) {
	mark = ev.Header.Get(PublishID)
	name, _, _ := strings.Cut(mark, ".")
	id, err := ParseID(name)
	if err != nil || id.Millis() > c.now.Wall+c.cfg.IDWindow { // ids of the far future would be remembered till then
		return "", ID{}
	}
	if publishMark(id, topic, ev) != mark {
		return "", ID{}
	}
	return mark, id
}

// member is whose turn an event is: that of a copy of it as well.
func (g *groupEntry) member(ev *Event, mark string) *subEntry {
	n := uint64(ev.Offset)
	if mark != "" {
		n = hash64("member", mark)
	}
	return g.members[n%uint64(len(g.members))]
}

// tellOf is the id by which one life of a group knows an event with a mark: the same for
// each copy of it, so that it runs once, whoever are the members by then. The tell has it,
// too, but for the home, which is the member's.
func (c *Core) tellOf(g *groupEntry, mark string, from ID, m *subEntry) ID {
	h := hash64("event", mark, sharedKey(&m.Subscription), utoa(g.life))
	return NewID(from.Millis(), c.cfg.Partition, m.Actor.App, lowBytes(h))
}

// knows reports whether a request with this id is here, or has ended here.
func (c *Core) knows(id ID) bool {
	return c.entries[id] != nil || c.homes[id] != nil || c.ended.has(id)
}

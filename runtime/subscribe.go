package runtime

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// A subscription belongs to its actor's partition; the cursor that it shares
// with the others of its group belongs to the group's. A subscription without
// a group is a group of its own, in its actor's partition.

// groupKey names the group of a subscription, which belongs to its app. In a log
// of level 1 it belonged to nobody: see splitGroups.
func (c *Core) groupKey(s *Subscription) string {
	if s.Group == "" || c.LogLevel() < 2 {
		return sharedKey(s)
	}
	b := appendPart([]byte("g"), s.Actor.App)
	b = appendPart(b, s.Group)
	return string(appendPart(b, s.Topic))
}

// sharedKey is groupKey as it was at level 1. Who needs a name that stays over a
// change of the level, and names the app besides, still takes this one.
func sharedKey(s *Subscription) string {
	if s.Group == "" {
		b := appendPart([]byte("a"), s.Actor.App)
		b = appendPart(b, s.Actor.Type)
		b = appendPart(b, s.Actor.ID)
		b = appendPart(b, s.ID)
		return string(appendPart(b, s.Topic))
	}
	return string(appendPart(appendPart([]byte("g"), s.Group), s.Topic))
}

// GroupPartition is where the cursor of a subscription lives: the groups of one
// name in one topic side by side, each under the key of its app.
func GroupPartition(s *Subscription, partitions int) uint16 {
	if s.Group == "" {
		return ActorPartition(s.Actor, partitions)
	}
	return uint16(hash64("g", s.Group, s.Topic) % uint64(partitions))
}

// Subscribe creates or replaces a subscription. Subscription.Next is where a
// new group starts; the engine asks the topic before. The reply's Value is
// whether a subscription was replaced.
type Subscribe struct {
	Subscription Subscription
	Boot         string
	ID           ID // under which it is repeated; zero for none
	Waiter       any
}

func (in *Subscribe) decide(c *Core) {
	s := in.Subscription
	if err := checkPath(Target{App: s.Actor.App, Type: s.Actor.Type, ID: s.Actor.ID}, s.Path, CodeBadSubscription); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	if n := max(len(s.ID), len(s.Group), len(s.ContentType)); n > maxNameBytes { // they stand in records of events
		c.refuse(in.Waiter, Errorf(CodeBadSubscription, "a name of the subscription (id, group or content type) has %d bytes; the limit is %d", n, maxNameBytes))
		return
	}
	if c.refuseLost(in.Boot, s.Actor, in.Waiter) {
		return
	}
	if c.repeated(in.ID, s.Actor.App, in.Waiter, replaced) {
		return
	}
	if c.refuseLarge(in.Waiter, "the subscription", 3*s.bytes()) { // for its group, too, and for the one that it leaves
		return
	}
	old := c.sub(s.Actor, s.ID)
	found := old != nil
	if err := c.spareGroup(old, &s); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	more := s.lasts()
	if found {
		more -= old.lasts()
	}
	if err := c.spareLasting(s.Actor.App, more); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	var out []OutMessage
	if found && c.groupKey(&old.Subscription) != c.groupKey(&s) {
		out = c.toGroup(out, msgLeave, &old.Subscription, Subscription{Actor: s.Actor, ID: s.ID})
	}
	out = c.toGroup(out, msgJoin, &s, s)
	for _, l := range c.leaving {
		if l.actor == s.Actor {
			l.spared[s.ID] = true
		}
	}
	c.emit(&subscribed{s, c.doneAs(in.ID, done{yes: found})}, out...)
	c.effect(Effect{Kind: GroupsChanged})
	c.replyValue(in.Waiter, found)
}

// subscriptionBytes is about what a subscription, its place in its group and a group of
// its own take in memory beside names.
const subscriptionBytes = 1024

// lasts is what a subscription takes for as long as it is there.
func (s *Subscription) lasts() int { return subscriptionBytes + s.bytes() }

// How many subscriptions an actor may have, which are listed in one step, and how many
// groups an app in one partition: each of them costs its gateway a reader.
const (
	maxSubscriptions = 10_000
	maxGroups        = 20_000
)

// spareGroup refuses a subscription, in place of old, beyond what an actor or an app may
// have. Groups that are in other partitions count as well: each has a place here.
func (c *Core) spareGroup(old *subEntry, s *Subscription) *Error {
	if n := len(c.subs[s.Actor]); old == nil && n >= maxSubscriptions {
		return Errorf(CodeTooLarge, "the actor has %d subscriptions already, which is the limit; delete some, or spread them over several actors", n)
	}
	if old != nil && len(c.memberOf[memberKey{s.Actor, s.ID}].members) == 1 || c.liveGroup(c.groupKey(s)) != nil {
		return nil // no group more
	}
	if n := c.groupsOf(s.Actor.App); n >= maxGroups {
		return Errorf(CodeTooLarge, "app %s has %d groups of subscribers in this partition already, which is the limit; let subscriptions share one (\"group\")", s.Actor.App, n)
	}
	return nil
}

// groupsOf is how many groups of an app are here; those that apps have in common, in a
// log of level 1, are nobody's.
func (c *Core) groupsOf(app string) (n int) {
	for _, kind := range [...]string{"a", "g"} {
		prefix := string(appendPart([]byte(kind), app))
		first, _ := c.groupIndex(prefix)
		end, _ := slices.BinarySearchFunc(c.groupOrder, prefix, func(g *groupEntry, prefix string) int {
			if strings.HasPrefix(g.key, prefix) {
				return -1
			}
			return strings.Compare(g.key, prefix)
		})
		n += end - first
	}
	return n
}

// unsubscribe removes subscriptions of an actor, as one record; those whose
// group is elsewhere leave it by a message.
func (c *Core) unsubscribe(a Actor, ids []string, d done) {
	b := &unsubscribed{a, ids, d}
	var out []OutMessage
	for _, id := range ids {
		out = c.toGroup(out, msgLeave, &c.sub(a, id).Subscription, Subscription{Actor: a, ID: id})
	}
	c.emit(b, out...)
	c.effect(Effect{Kind: GroupsChanged})
}

// toGroup adds a message about a subscription when its group is elsewhere. To leave
// it takes no more than a name.
func (c *Core) toGroup(out []OutMessage, kind uint64, s *Subscription, what Subscription) []OutMessage {
	to := GroupPartition(s, c.cfg.Partitions)
	if to == c.cfg.Partition {
		return out
	}
	return append(out, OutMessage{To: to, Payload: encode(nil, &parcel{kind: kind, gen: c.generation(s.Actor.App), sub: what})})
}

// applySubscribed serves both ends: the actor's list and the group's members.
func (c *Core) applySubscribed(seq uint64, s Subscription) {
	c.use(s.Actor.App)
	key := c.groupKey(&s)
	x := &subEntry{Subscription: s}
	if ActorPartition(s.Actor, c.cfg.Partitions) == c.cfg.Partition {
		byID := c.subs[s.Actor]
		if byID == nil {
			byID = map[string]*subEntry{}
			c.subs[s.Actor] = byID
		}
		if old := byID[s.ID]; old == nil {
			c.subCount++
		} else {
			c.weighLasting(s.Actor.App, -old.lasts())
		}
		c.weighLasting(s.Actor.App, x.lasts())
		byID[s.ID] = x
	}
	here := GroupPartition(&s, c.cfg.Partitions) == c.cfg.Partition
	g := c.group(seq, key, &s)
	if !here {
		g.next = -1 // the cursor is elsewhere; this entry only keeps the subscription live in the log
	}
	c.addMember(g, x)
}

func (c *Core) dropSubscription(a Actor, id string) {
	c.dropSub(a, id)
	c.dropMember(memberKey{a, id})
}

func (c *Core) dropSub(a Actor, id string) {
	m := c.subs[a]
	if m[id] == nil {
		return
	}
	c.subCount--
	c.weighLasting(a.App, -m[id].lasts())
	if delete(m, id); len(m) == 0 {
		delete(c.subs, a)
	}
}

// sub finds a subscription that no purge has ended.
func (c *Core) sub(a Actor, id string) *subEntry {
	if g := c.memberOf[memberKey{a, id}]; g == nil || c.deadGroup(g) {
		return nil
	}
	return c.subs[a][id]
}

// dropSubscriptionsOf is what the record of a purge does in logs of level 1. It also removes the members that groups here have in other
// partitions: no other news of the purge reaches a group.
func (c *Core) dropSubscriptionsOf(app string) {
	if c.app(app).members == 0 {
		return
	}
	for _, a := range actorsOf(c.subs, app) {
		c.subCount -= len(c.subs[a])
		for _, x := range c.subs[a] { // a sum: in any order
			c.weighLasting(app, -x.lasts())
		}
		delete(c.subs, a)
	}
	c.groupOrder = slices.DeleteFunc(c.groupOrder, func(g *groupEntry) bool {
		g.members = slices.DeleteFunc(g.members, func(m *subEntry) bool {
			if m.Actor.App == app {
				delete(c.memberOf, memberKey{m.Actor, m.ID})
				c.app(app).members--
				return true
			}
			return false
		})
		if len(g.members) > 0 {
			return false
		}
		c.forgetGroup(g)
		return true
	})
}

// Unsubscribe removes one subscription (or all, ID ""); the reply's Value is the number.
type Unsubscribe struct {
	Actor   Actor
	ID      string
	Boot    string
	Request ID // under which it is repeated; zero for none
	Waiter  any
}

const (
	// unsubscribeRecord and unsubscribeStep bound what one record and one step
	// remove of an actor that has many subscriptions.
	unsubscribeRecord = 100
	unsubscribeStep   = 1000
)

// leaving are subscriptions that are removed in pieces.
type leaving struct {
	actor  Actor
	ids    []string
	spared map[string]bool // made anew meanwhile
	id     ID
	n      int
	waiter any
}

func (in *Unsubscribe) decide(c *Core) {
	if c.refuseLost(in.Boot, in.Actor, in.Waiter) {
		return
	}
	if c.repeated(in.Request, in.Actor.App, in.Waiter, counted) {
		return
	}
	l := &leaving{actor: in.Actor, ids: c.subsOf(in.Actor, in.ID), spared: map[string]bool{}, id: in.Request, waiter: in.Waiter}
	l.n = len(l.ids)
	if !c.unsubscribePieceOf(l) {
		c.leaving = append(c.leaving, l)
	}
}

// unsubscribeSome goes on with one removal of subscriptions after the other.
func (c *Core) unsubscribeSome() {
	if len(c.leaving) == 0 {
		return
	}
	l := c.leaving[0]
	c.leaving[0] = nil
	c.leaving = c.leaving[1:]
	if !c.unsubscribePieceOf(l) {
		c.leaving = append(c.leaving, l)
	}
}

// unsubscribePieceOf tells whether the removal is done with that. A subscription
// that was made anew meanwhile stays.
func (c *Core) unsubscribePieceOf(l *leaving) bool {
	for budget := unsubscribeStep; budget > 0 && (len(l.ids) > 0 || l.n == 0); {
		var ids []string
		size := 0
		for ; len(l.ids) > 0 && len(ids) < unsubscribeRecord && size < listBytes; l.ids = l.ids[1:] {
			id := l.ids[0]
			if x := c.sub(l.actor, id); x != nil && !l.spared[id] {
				ids = append(ids, id)
				size += len(id) + x.bytes()
			}
		}
		var d done
		if len(l.ids) == 0 { // the last record says that all is done
			d = c.doneAs(l.id, done{n: l.n})
		}
		if len(ids) > 0 || len(l.ids) == 0 && !l.id.IsZero() {
			c.unsubscribe(l.actor, ids, d)
		}
		if budget -= len(ids); len(l.ids) == 0 {
			break
		}
	}
	if len(l.ids) > 0 {
		return false
	}
	c.replyValue(l.waiter, l.n)
	return true
}

// subsOf are the ids of an actor's subscriptions, or the one that is named.
func (c *Core) subsOf(a Actor, id string) (ids []string) {
	if id != "" {
		ids = []string{id}
	} else {
		ids = sortedKeys(c.subs[a])
	}
	return slices.DeleteFunc(ids, func(id string) bool { return c.sub(a, id) == nil })
}

func (c *Core) subscriptionsOf(a Actor, id string) []Subscription {
	var ss []Subscription
	for _, k := range c.subsOf(a, id) {
		ss = append(ss, c.sub(a, k).Subscription)
	}
	return ss
}

// GroupCursor is a group whose cursor lives here.
type GroupCursor struct {
	Key, Topic string
	Next       int64
}

func (c *Core) groupCursors(after string, limit int) []GroupCursor {
	var gs []GroupCursor
	first := 0
	if after != "" {
		i, found := c.groupIndex(after)
		if first = i; found {
			first++
		}
	}
	for _, g := range c.groupOrder[first:] {
		if limit > 0 && len(gs) == limit {
			break
		}
		if g.next >= 0 && !c.deadGroup(g) {
			gs = append(gs, GroupCursor{g.key, g.topic, g.next})
		}
	}
	return gs
}

// DeliverEvents hands consecutive events to a group: each becomes one tell to
// one member, in the record that moves the cursor (P9). The reply's Value is
// the next offset.
type DeliverEvents struct {
	Group string
	// From is the offset from which the events were asked for. When the cursor
	// is behind it, they belong to an earlier life of the group: nothing is
	// delivered, and the reply says where to go on.
	From   int64
	Events []Event
	Waiter any
}

func (in *DeliverEvents) decide(c *Core) {
	g := c.liveGroup(in.Group)
	if g == nil || g.next < 0 {
		c.refuse(in.Waiter, Errorf(CodeNotFound, "the group is gone"))
		return
	}
	if in.From > g.next {
		c.replyValue(in.Waiter, g.next)
		return
	}
	if c.unfinished(g) >= groupLimit || g.heavy(c.cfg.WorkBytes) {
		c.block(g, in.Waiter)
		return
	}
	from := g.next
	life := groupLife{g.key, g.life, c.cfg.Partition}
	for i := range in.Events {
		ev := &in.Events[i]
		if ev.Offset < g.next {
			continue // delivered before
		}
		mark, by := c.publishedAs(g.topic, ev)
		m := g.member(ev, mark)
		to := ActorPartition(m.Actor, c.cfg.Partitions)
		var id, copied ID
		if mark == "" {
			id = c.makeIDFor(m.Actor.App, to)
		} else if copied = c.tellOf(g, mark, by, m); c.knows(copied) {
			c.emit(&delivered{group: g.key, next: ev.Offset + 1}) // it is in the topic twice
			continue
		} else {
			id = copied.in(to)
		}
		req := Request{
			ID: id, Kind: Tell,
			Target: Target{App: m.Actor.App, Type: m.Actor.Type, ID: m.Actor.ID},
			Method: "POST", Path: m.Path, Body: eventBody(m.ContentType, ev.Body),
		}
		if !c.fits(req.bytes() + 2*len(g.key)) {
			// Written as an argument it is larger than it was in the topic.
			c.Counts.DeadLetters++
			why := Errorf(CodeTooLarge, "event %d of topic %s has %d bytes as an argument", ev.Offset, g.topic, len(req.Body))
			c.effect(Effect{Kind: AppError, ID: req.ID, Outcome: why.Outcome(), Target: req.Target})
			c.emit(&delivered{group: g.key, next: ev.Offset + 1})
			continue
		}
		if c.eventWaits(&req) {
			if g.next == from {
				c.block(g, in.Waiter)
				return
			}
			break // the pump comes again with the rest
		}
		c.Counts.EventsDelivered++
		if to == c.cfg.Partition {
			b := accepted{req: req, flow: req.ID, home: c.cfg.Partition, at: c.now.Wall, offset: ev.Offset}.of(life, c.cfg.Partition)
			c.accept(&b, nil)
		} else {
			p := &parcel{kind: msgTell, flow: req.ID, gen: c.generation(m.Actor.App), req: req, group: g.key, life: g.life}
			c.emit(&delivered{g.key, ev.Offset + 1, copied}, OutMessage{To: to, Payload: encode(nil, p)})
			c.sentAway(g, to, len(req.Body))
		}
	}
	c.replyValue(in.Waiter, g.next)
}

// eventBody is the argument array for an event: JSON as it is, other text as a
// JSON string, as KAR 1.x did, and bytes that are no text, which no JSON string
// can hold, in base64 under the name that CloudEvents has for such data.
func eventBody(contentType string, body []byte) []byte {
	ct := strings.TrimSpace(strings.ToLower(strings.SplitN(contentType, ";", 2)[0]))
	isJSON := ct == "" || ct == "text/json" || ct == "application/json" || strings.HasSuffix(ct, "+json")
	if !utf8.Valid(body) {
		return []byte(`[{"data_base64":"` + base64.StdEncoding.EncodeToString(body) + `"}]`)
	}
	if !isJSON || !json.Valid(body) {
		text, err := json.Marshal(string(body))
		if err != nil { // a string: cannot happen
			text = []byte(`""`)
		}
		body = text
	}
	return slices.Concat([]byte("["), body, []byte("]"))
}

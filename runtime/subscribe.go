package runtime

import (
	"encoding/json"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// A subscription belongs to its actor's partition; the cursor that it shares
// with the others of its group belongs to the group's. A subscription without
// a group is a group of its own, in its actor's partition.

func groupKey(s *Subscription) string {
	if s.Group == "" {
		b := appendPart([]byte("a"), s.Actor.App)
		b = appendPart(b, s.Actor.Type)
		b = appendPart(b, s.Actor.ID)
		b = appendPart(b, s.ID)
		return string(appendPart(b, s.Topic))
	}
	return string(appendPart(appendPart([]byte("g"), s.Group), s.Topic))
}

// GroupPartition is where the cursor of a subscription lives.
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
	Waiter       any
}

func (in *Subscribe) decide(c *Core) {
	s := in.Subscription
	if err := checkPath(Target{App: s.Actor.App, Type: s.Actor.Type, ID: s.Actor.ID}, s.Path, CodeBadSubscription); err != nil {
		c.refuse(in.Waiter, err)
		return
	}
	old, replaced := c.subs[s.Actor][s.ID]
	if replaced && groupKey(&old.Subscription) != groupKey(&s) {
		c.unsubscribe(old)
	}
	to := GroupPartition(&s, c.cfg.Partitions)
	if to == c.cfg.Partition {
		c.emit(&subscribed{s})
	} else {
		c.emit(&subscribed{s}, OutMessage{To: to, Payload: encode(nil, &parcel{kind: msgJoin, gen: c.generation(s.Actor.App), sub: s})})
	}
	c.effect(Effect{Kind: GroupsChanged})
	c.replyValue(in.Waiter, replaced)
}

func (c *Core) unsubscribe(s *subEntry) {
	b := &unsubscribed{s.Actor, []string{s.ID}}
	if to := GroupPartition(&s.Subscription, c.cfg.Partitions); to == c.cfg.Partition {
		c.emit(b)
	} else {
		c.emit(b, OutMessage{To: to, Payload: encode(nil, &parcel{kind: msgLeave, gen: c.generation(s.Actor.App), sub: s.Subscription})})
	}
	c.effect(Effect{Kind: GroupsChanged})
}

// applySubscribed serves both ends: the actor's list and the group's members.
func (c *Core) applySubscribed(seq uint64, s Subscription) {
	key := groupKey(&s)
	x := &subEntry{Subscription: s, group: key}
	if ActorPartition(s.Actor, c.cfg.Partitions) == c.cfg.Partition {
		byID := c.subs[s.Actor]
		if byID == nil {
			byID = map[string]*subEntry{}
			c.subs[s.Actor] = byID
		}
		byID[s.ID] = x
	}
	here := GroupPartition(&s, c.cfg.Partitions) == c.cfg.Partition
	g := c.groups[key]
	if g == nil {
		g = &groupEntry{key: key, topic: s.Topic, next: s.Next}
		c.groups[key] = g
		c.keep.place(&g.node, seq, g) // an older base stays: it holds the other members
	}
	if !here {
		g.next = -1 // the cursor is elsewhere; this entry only keeps the subscription live in the log
	}
	for i, m := range g.members {
		if m.Actor == s.Actor && m.ID == s.ID {
			g.members[i] = x
			return
		}
	}
	g.members = append(g.members, x)
	sort.Slice(g.members, func(i, j int) bool {
		a, b := g.members[i], g.members[j]
		if a.Actor != b.Actor {
			return lessActor(a.Actor, b.Actor)
		}
		return a.ID < b.ID
	})
}

func (c *Core) dropSubscription(a Actor, id string) {
	if m := c.subs[a]; m != nil {
		delete(m, id)
		if len(m) == 0 {
			delete(c.subs, a)
		}
	}
	for key, g := range c.groups { // in any order: what each one does is its own
		c.dropMembers(key, g, func(m *subEntry) bool { return m.Actor == a && m.ID == id })
	}
}

// dropSubscriptionsOf also removes the members that groups here have in other
// partitions: no other news of the purge reaches a group.
func (c *Core) dropSubscriptionsOf(app string) {
	for _, a := range actorsOf(c.subs, app) {
		delete(c.subs, a)
	}
	for key, g := range c.groups {
		c.dropMembers(key, g, func(m *subEntry) bool { return m.Actor.App == app })
	}
}

func (c *Core) dropMembers(key string, g *groupEntry, gone func(*subEntry) bool) {
	g.members = slices.DeleteFunc(g.members, gone)
	if len(g.members) == 0 {
		c.keep.remove(&g.node)
		delete(c.groups, key)
	}
}

// Unsubscribe removes one subscription (or all, ID ""); the reply's Value is the number.
type Unsubscribe struct {
	Actor  Actor
	ID     string
	Waiter any
}

func (in *Unsubscribe) decide(c *Core) {
	ids := pick(c.subs[in.Actor], in.ID)
	for _, id := range ids {
		c.unsubscribe(c.subs[in.Actor][id])
	}
	c.replyValue(in.Waiter, len(ids))
}

func pick[V any](m map[string]V, id string) []string {
	if id == "" {
		return sortedKeys(m)
	}
	if _, ok := m[id]; ok {
		return []string{id}
	}
	return nil
}

func (c *Core) subscriptionsOf(a Actor, id string) []Subscription {
	var ss []Subscription
	for _, k := range pick(c.subs[a], id) {
		ss = append(ss, c.subs[a][k].Subscription)
	}
	return ss
}

// GroupCursor is a group whose cursor lives here.
type GroupCursor struct {
	Key, Topic string
	Next       int64
}

func (c *Core) groupCursors() []GroupCursor {
	var gs []GroupCursor
	for _, k := range sortedKeys(c.groups) {
		if g := c.groups[k]; g.next >= 0 {
			gs = append(gs, GroupCursor{k, g.topic, g.next})
		}
	}
	return gs
}

// groupLimit is how much of a group's work may be unfinished before the pump waits.
const groupLimit = 1000

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
	g := c.groups[in.Group]
	if g == nil || g.next < 0 {
		c.refuse(in.Waiter, Errorf(CodeNotFound, "the group is gone"))
		return
	}
	if g.pending >= groupLimit {
		c.blocked[in.Group] = append(c.blocked[in.Group], in.Waiter)
		return
	}
	if in.From > g.next {
		c.replyValue(in.Waiter, g.next)
		return
	}
	for i := range in.Events {
		ev := &in.Events[i]
		if ev.Offset < g.next {
			continue // delivered before
		}
		m := g.members[int(ev.Offset)%len(g.members)]
		req := Request{
			ID: c.makeID(m.Actor.App), Kind: Tell,
			Target: Target{App: m.Actor.App, Type: m.Actor.Type, ID: m.Actor.ID},
			Method: "POST", Path: m.Path, Body: eventBody(m.ContentType, ev.Body),
		}
		c.Counts.EventsDelivered++
		to := ActorPartition(m.Actor, c.cfg.Partitions)
		if to == c.cfg.Partition {
			c.accept(&accepted{req: req, flow: req.ID, home: c.cfg.Partition, at: c.now.Wall, group: g.key, offset: ev.Offset}, nil)
		} else {
			p := &parcel{kind: msgTell, flow: req.ID, gen: c.generation(m.Actor.App), req: req}
			c.emit(&delivered{g.key, ev.Offset + 1}, OutMessage{To: to, Payload: encode(nil, p)})
		}
	}
	c.replyValue(in.Waiter, g.next)
}

// unblockGroup lets waiting pumps ask again.
func (c *Core) unblockGroup(key string) {
	g := c.groups[key]
	if ws := c.blocked[key]; len(ws) > 0 && (g == nil || g.pending < groupLimit/2) {
		delete(c.blocked, key)
		for _, w := range ws {
			c.refuse(w, Errorf(CodeAskAgain, "the group has room again"))
		}
	}
}

// eventBody is the argument array for an event: JSON as it is, anything else
// as a JSON string (kar-compat 5.11).
func eventBody(contentType string, body []byte) []byte {
	ct := strings.TrimSpace(strings.ToLower(strings.SplitN(contentType, ";", 2)[0]))
	isJSON := ct == "" || ct == "text/json" || ct == "application/json" || strings.HasSuffix(ct, "+json")
	if isJSON && json.Valid(body) {
		return append(append([]byte("["), body...), ']')
	}
	text := string(body)
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	b, err := json.Marshal(text)
	if err != nil {
		b = []byte(`""`)
	}
	return append(append([]byte("["), b...), ']')
}

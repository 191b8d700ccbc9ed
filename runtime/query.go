package runtime

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// QueryKind says what a Query asks.
type QueryKind uint8

const (
	QueryReminders     QueryKind = iota // []Reminder of Actor, by id (ID "" for all: the first Limit of those behind After)
	QuerySubscriptions                  // []Subscription of Actor (ID "" for all)
	QueryActive                         // ActivePage of App (on Boot, when set); []Actor, in no order, with Limit 0
	QueryMissing                        // []MissingComponent of App ("" for all)
	QueryRequest                        // RequestFacts of Request in App
	QueryGroups                         // []GroupCursor, sorted by key: the first Limit of those behind After
	QueryServices                       // []ServiceFact
	QueryGauges                         // Gauges
	QueryGeneration                     // uint64 of App
	QueryIdle                           // bool: nothing can run until somebody asks
)

// A Query reads the partition; the reply's Value is as the kind says. Like
// every answer it waits for what was decided before it to be durable.
type Query struct {
	Kind    QueryKind
	App     string
	Actor   Actor
	ID      string
	Boot    string
	Request ID
	After   string
	Limit   int // 0 for all, as versions that do not know it take it
	Waiter  any
}

// MissingComponent is what requests wait for and nobody offers.
type MissingComponent struct {
	App, Name string
	Actor     bool
	Waiting   int
	Since     int64 // milliseconds ago
}

// RequestFacts tell where a request is.
type RequestFacts struct {
	State         string
	Target        Target
	Attempt, Step uint32
	Host          string
	BlockedBy     string
}

// Gauges are sizes of the moment.
type Gauges struct {
	Counts
	Hosts, Open, Parked, Reminders, Subscriptions, EndedIDs int
	// Due reminders and pumps of events that wait until their app has room.
	RemindersWaiting, GroupsWaiting int
	// Other partitions that have not answered yet: until then nothing begins again of
	// what ran in the terms before.
	AnswersWaiting int
}

func (in *Query) decide(c *Core) { c.replyValue(in.Waiter, c.query(in)) }

func (c *Core) query(in *Query) any {
	switch in.Kind {
	case QueryReminders:
		return c.remindersOf(in.Actor, in.ID, in.After, in.Limit)
	case QuerySubscriptions:
		return c.subscriptionsOf(in.Actor, in.ID)
	case QueryActive:
		page := c.activeOf(in)
		if in.Limit == 0 {
			return page.Actors
		}
		return page
	case QueryMissing:
		return c.missing(in.App)
	case QueryRequest:
		return c.requestFacts(in.App, in.Request)
	case QueryGroups:
		return c.groupCursors(in.After, in.Limit)
	case QueryServices:
		return c.serviceFacts()
	case QueryGauges:
		return c.gauges()
	case QueryIdle:
		return c.idle()
	}
	return c.generation(in.App)
}

// An ActivePage lists some of the actors that are placed. Next is where the next page
// begins, "" after the last one. An actor may stand in several pages; one that keeps
// its place meanwhile stands in one of them at least.
type ActivePage struct {
	Actors []Actor
	Next   string
}

// activeOf goes through hosts in order, and through what each holds from its end
// downwards: whoever leaves is replaced by the last one, so that nobody who has not
// been listed comes to stand above where the next page begins. A boot is of one app,
// so that others cost a look at their hosts.
func (c *Core) activeOf(in *Query) (page ActivePage) {
	left, after := -1, "" // of the host where the page before ended
	if count, place, more := strings.Cut(in.After, " "); more {
		term, boot, _ := strings.Cut(place, " ")
		if name, err := hex.DecodeString(boot); err == nil {
			boot = string(name) // an older owner's is not encoded
		}
		if after = boot; term == utoa(c.epoch) { // another owner has another order
			left, _ = strconv.Atoi(count)
		}
	}
	for _, boot := range sortedKeys(c.hosts) {
		h := c.hosts[boot]
		if boot < after || in.Boot != "" && boot != in.Boot || len(h.placed) == 0 || h.placed[0].actor.App != in.App {
			continue
		}
		n := len(h.placed)
		if boot == after && left >= 0 {
			n = min(n, left)
		}
		for ; n > 0; n-- {
			if in.Limit > 0 && len(page.Actors) >= in.Limit {
				page.Next = strconv.Itoa(n) + " " + utoa(c.epoch) + " " + hex.EncodeToString([]byte(boot)) // whatever its bytes are, they come back
				return page
			}
			page.Actors = append(page.Actors, h.placed[n-1].actor)
		}
	}
	return page
}

func (c *Core) missing(app string) []MissingComponent {
	var ms []MissingComponent
	for comp, p := range c.parked {
		if (app != "" && comp.app != app) || len(c.takers(comp)) > 0 {
			continue
		}
		n := p.requests.len() + p.awaited.len() + p.suspects.len() + p.resting + p.work
		if n > 0 {
			ms = append(ms, MissingComponent{comp.app, comp.name, comp.actor, n, c.now.Mono - p.since})
		}
	}
	return ms
}

func (c *Core) requestFacts(app string, id ID) RequestFacts {
	e := c.entries[id]
	if e != nil && c.isPurged(e) {
		return RequestFacts{State: "completed"}
	}
	if e == nil || e.req.Target.App != app {
		switch {
		case c.homes[id] != nil && c.homes[id].req.Target.App == app:
			return RequestFacts{State: "running", Target: c.homes[id].req.Target, BlockedBy: "the next step of its chain, in another partition"}
		case c.ended.has(id):
			return RequestFacts{State: "completed"}
		}
		return RequestFacts{}
	}
	f := RequestFacts{Target: e.req.Target, Attempt: e.attempt, Step: e.step, Host: e.host}
	switch e.phase {
	case running:
		f.State = "running"
	case stopped:
		f.State = "retrying"
		if len(e.children) > 0 {
			f.BlockedBy = strconv.Itoa(len(e.children)) + " calls of its earlier attempt"
		} else if c.fencing(e) {
			f.BlockedBy = c.unanswered() + ", where a call of its earlier attempt may still arrive"
		} else if e.suspect() && e.lined != nil {
			f.BlockedBy = "other requests that were interrupted as often: they run apart"
		}
	default:
		f.State = "waiting"
		comp := componentOf(e.req.Target)
		switch {
		case e.phase == delayed:
			f.BlockedBy = "its time"
		case len(c.takers(comp)) == 0:
			f.State, f.BlockedBy = "parked", "a component that offers "+comp.name
		case c.standsStill(e):
			f.BlockedBy = "its component, which is away or stands still"
		case e.req.Target.IsActor():
			f.BlockedBy = "other work of the actor"
		}
	}
	return f
}

func (c *Core) gauges() Gauges {
	g := Gauges{Counts: c.Counts, Hosts: 0, Open: len(c.entries), Reminders: c.remCount, Subscriptions: c.subCount, EndedIDs: c.ended.count, RemindersWaiting: c.lateCount(), GroupsWaiting: len(c.blocked), AnswersWaiting: len(c.fenceWait)}
	for _, h := range c.hosts {
		if h.known {
			g.Hosts++
		}
	}
	for comp, p := range c.parked {
		if len(c.takers(comp)) == 0 {
			g.Parked += p.requests.len() + p.awaited.len() + p.suspects.len() + len(p.actors)
		}
	}
	return g
}

// idle: no component is attached, nothing is running, and nothing waits that a
// url component could take.
func (c *Core) idle() bool {
	for _, h := range c.hosts {
		if len(h.running) > 0 || h.linked && h.info.URL == "" {
			return false
		}
	}
	for comp := range c.offers {
		if c.wanted[comp] > 0 && len(c.takers(comp)) > 0 {
			return false
		}
	}
	return true
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

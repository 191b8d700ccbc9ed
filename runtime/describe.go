package runtime

import (
	"fmt"
	"sort"
	"strings"
)

// Describe writes what the log says about the partition, one line for each
// thing, in an order of its own: two cores that folded the same decisions
// describe themselves alike. Memory of the owner (waiters, timers, links) is
// left out, and so is what needs no record to be forgotten (ended ids,
// outcomes that were taken, messages that were confirmed).
func (c *Core) Describe() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, e := range c.entries {
		add("request %s %s %s%s flow %s step %d attempt %d host %q epoch %d phase %s order %d home %d parents %v%s",
			e.req.ID, targetText(e.req.Target), e.req.Method, e.req.Path, e.flow, e.step, e.attempt, e.host, e.epoch,
			e.phase, e.order, e.home, e.parents, flags(e))
	}
	for id, h := range c.homes {
		add("away %s %s parents %v", id, targetText(h.req.Target), h.parents)
	}
	for _, a := range c.actors {
		s := ""
		if c.isStale(a) {
			s = " stale"
		}
		for _, z := range a.zombies {
			s += fmt.Sprintf(" zombie %s#%d@%s", z.id, z.attempt, z.host)
		}
		if h := c.placed(a); h != nil {
			add("actor %s at %q%s", actorText(a.actor), h.boot, s)
		} else if s != "" {
			add("actor %s at %q%s", actorText(a.actor), "", s)
		}
	}
	for boot, h := range c.hosts {
		if len(h.running) > 0 {
			add("host %s runs %d, bytes %d", boot, len(h.running), h.bytes)
		}
	}
	for a, byID := range c.reminders {
		for _, r := range byID {
			if c.dead(&r.node, a.App) {
				continue // a purge has ended it, memory has it still
			}
			firing := "-"
			if !r.firing.IsZero() {
				firing = r.firing.String()
			}
			add("reminder %s %s due %d+%dns period %d firing %s", actorText(a), r.Reminder.ID, r.Due, r.TargetNS, r.Period, firing)
		}
	}
	for a, byID := range c.subs {
		for id := range byID {
			if s := c.sub(a, id); s != nil {
				add("subscription %s %s topic %s group %q", actorText(a), id, s.Topic, s.Group)
			}
		}
	}
	for k, g := range c.groups {
		if c.deadGroup(g) {
			continue
		}
		add("group %q next %d members %d", k, g.next, len(g.members))
	}
	for name, a := range c.apps {
		if a.generation != 0 || len(a.services) > 0 {
			facts := []serviceFact{}
			for _, s := range a.services {
				facts = append(facts, s.serviceFact)
			}
			add("app %s generation %d services %v", name, a.generation, facts)
		}
	}
	for p, o := range c.out {
		add("outbox to %d next %d", p, o.next)
	}
	for p, n := range c.in {
		add("inbox from %d at %d", p, n)
	}
	for p, n := range c.fences {
		add("fence of %d below %d", p, n)
	}
	for k, id := range c.keys {
		add("key %q of %s", k, id)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n") + "\n"
}

func flags(e *entry) string {
	s := ""
	if e.cancelled {
		s += " cancelled"
	}
	if e.fired != nil {
		s += " reminder " + e.fired.reminder
	}
	if e.from.key != "" {
		s += " event"
	}
	if e.tried > 0 {
		s += fmt.Sprintf(" tried %d", e.tried)
	}
	if e.alone {
		s += " alone"
	}
	if e.suspect() {
		s += fmt.Sprintf(" suspect among %d", e.among)
	}
	return s
}

func targetText(t Target) string {
	if t.IsActor() {
		return actorText(t.Actor())
	}
	return t.App + "/" + t.Service
}

func actorText(a Actor) string { return a.App + "/" + a.Type + "/" + a.ID }

func (p phase) String() string {
	switch p {
	case delayed:
		return "delayed"
	case queued:
		return "queued"
	case held:
		return "held"
	case running:
		return "running"
	case stopped:
		return "stopped"
	}
	return "gone"
}

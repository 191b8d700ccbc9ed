package runtime

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// What of a core is not in the log, by type and field: memory of the owner,
// indexes that are made anew, and where a thing stands in the list of what is
// kept. Everything else is compared, so a new field is durable until it is
// named here.
var memoryOnly = map[string]bool{
	"Core.cfg": true, "Core.me": true, "Core.now": true, "Core.sawHead": true, "Core.skipped": true, "Core.head": true, "Core.headAt": true, "Core.floor": true, "Core.owned": true,
	"Core.seq": true, "Core.ghosts": true, "Core.unkept": true, "Core.withdrawals": true, "Core.purging": true, "appEntry.purging": true, "appEntry.left": true, "entry.ready": true, "actorEntry.ready": true, "actorEntry.hauntAt": true, "Core.hauntedOn": true, "Core.looks": true, "Core.pieces": true, "Core.haunts": true, "Core.cancels": true, "entry.withBoot": true, "entry.given": true, "entry.shaken": true, "actorEntry.hauntTurn": true, "hostEntry.gave": true, "hostEntry.halted": true, "appEntry.heldActors": true, "appEntry.heldParks": true, "Core.keptZombies": true, "Core.keptFrom": true, "Core.parked": true, "Core.offers": true, "Core.remCount": true, "Core.due": true, "Core.view": true,
	"Core.guests": true, "Core.keep": true, "Core.load": true, "Core.endSize": true, "Core.timers": true, "Core.walls": true, "Core.dirty": true, "Core.woken": true, "Core.budget": true, "Core.turns": true, "Core.askings": true, "Core.losing": true, "Core.reviews": true, "Core.dirtyParks": true,
	"Core.drained": true, "Core.purged": true, "Core.subCount": true, "appEntry.drains": true, "outbox.purges": true, "Core.purges": true, "Core.fenceWait": true, "Core.fenceHeld": true, "Core.abroad": true, "Core.orphans": true, "entry.abroad": true, "homeEntry.abroad": true, "Core.fenceAsked": true, "Core.inquiries": true, "Core.lastTick": true,
	"Core.blocked": true, "Core.leaving": true, "Core.forgettings": true, "Core.publishings": true, "Core.published": true, "Core.tables": true, "Core.released": true, "Core.via": true, "Core.records": true,
	"Core.effects": true, "Core.rounds": true, "Core.gap": true, "Core.markSeq": true, "Core.markAt": true, "Core.changes": true, "Core.Counts": true,

	"entry.node": true, "entry.leaves": true, "entry.began": true, "entry.waiters": true, "entry.children": true, "entry.retryAt": true, "entry.timer": true, "entry.wall": true,
	"groupEntry.size": true, "entry.since": true, "entry.answered": true, "entry.flowAt": true, "entry.bodyAt": true, "entry.asked": true, "entry.keeping": true, "entry.unsent": true, "entry.inside": true, "entry.summed": true, "entry.guestAt": true, "entry.lined": true, "entry.turn": true, "entry.turnAt": true, "entry.void": true, "entry.lent": true, "entry.sought": true, "entry.blamed": true, "entry.apart": true,
	"homeEntry.node": true, "homeEntry.waiters": true, "homeEntry.timer": true, "homeEntry.answered": true, "wish.node": true, "wish.at": true,
	"past.node": true, "past.at": true,
	"Core.fired": true, "firing.at": true,
	"Core.oldClears": true, "Core.clearingsOf": true, "clearing.node": true, "clearing.at": true, "clearing.upto": true, "clearing.going": true, "clearing.drains": true, "clearing.waiters": true,
	"Core.borrowers": true, "borrowing.node": true, "borrowing.abroad": true,
	"ending.node": true, "ending.noted": true, "lostEntry.noted": true, "appEntry.noted": true, "Core.ownedAt": true, "Core.wanted": true,
	"actorEntry.node": true, "actorEntry.flow": true, "actorEntry.nested": true, "actorEntry.awaited": true, "actorEntry.placeAt": true, "actorEntry.asking": true, "actorEntry.dirty": true,
	"actorEntry.idleSince": true, "actorEntry.idleTurn": true, "actorEntry.idle": true, "actorEntry.parked": true,
	"actorEntry.urgent": true, "actorEntry.parkTurn": true, "actorEntry.parkHost": true,
	"hostEntry.info": true, "hostEntry.known": true, "hostEntry.linked": true, "hostEntry.contact": true,
	"hostEntry.grace": true, "hostEntry.stops": true, "hostEntry.joined": true, "hostEntry.begun": true, "hostEntry.among": true, "hostEntry.full": true, "hostEntry.review": true, "hostEntry.lines": true, "hostEntry.idle": true,
	"reminderEntry.node": true, "reminderEntry.index": true, "reminderEntry.leaving": true, "reminderEntry.late": true, "Core.late": true,
	"groupEntry.node": true, "groupEntry.moving": true, "groupEntry.keptTo": true, "groupEntry.split": true, "groupEntry.away": true, "groupTells.asked": true, // asked anew
	"Core.sweepTo": true, "Core.sweepNext": true, "Core.lostOrder": true, "Core.oldPasts": true, "Core.oldWishes": true, "Core.strangers": true, "Core.strange": true,
	"serviceEntry.node": true, "lostEntry.node": true, "appEntry.node": true, "appEntry.links": true, "appEntry.roll": true, "appEntry.holds": true, "appEntry.members": true, "actorEntry.unkept": true, "entry.seat": true, "homeEntry.seat": true, "Core.enrolled": true, "appEntry.purged": true,
	"outEntry.node": true, "outEntry.sent": true, "outbox.size": true, "outbox.again": true, "outbox.againAt": true,
}

// What may be forgotten without a record: a fold may know more than the owner.
var forgettable = []string{"endings", "ended", "out.", "lost", "apps", "wishes", "pasts", "clearings"}

// A lister writes down what is durable, and notes the fields that it met with a value.
type lister struct{ seen map[string]bool }

func durable(c *Core) map[string]string { return (&lister{}).durable(c) }

// durable lists everything of a core that the log tells, a line for each thing.
func (l *lister) durable(c *Core) map[string]string {
	lines := map[string]string{}
	for _, a := range c.actors { // what a purge has ended may still have to be let go of
		a.stale = c.isStale(a)
		a.queue.settle()
		a.resting.settle()
	}
	for _, list := range c.reminders {
		for _, r := range slices.Clone(list) {
			c.reminder(r.Actor, r.ID)
		}
	}
	for n := c.keep.live.first; n != nil; {
		g, ok := n.owner.(*groupEntry)
		if n = n.next; ok && c.deadGroup(g) {
			c.dropDead(g, len(g.members))
		}
	}
	for id, x := range c.endings {
		if c.dead(&x.node, x.app) {
			c.dropEnding(id)
		}
	}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		f := v.Field(i)
		switch {
		case memoryOnly["Core."+name]:
		case name == "ended":
			for _, b := range c.ended.all() {
				for _, run := range append(b.runs, sortedIDs(b.recent)) {
					for _, id := range run {
						lines["ended "+id.String()] = ""
					}
				}
			}
		case name == "out":
			for to, o := range c.out {
				lines[fmt.Sprintf("outbox %d", to)] = fmt.Sprint(o.next)
				for _, e := range o.pending {
					lines[fmt.Sprintf("out. %d %d", to, e.n)] = fmt.Sprintf("%x", e.payload)
				}
			}
		case f.Kind() == reflect.Map:
			for it := f.MapRange(); it.Next(); {
				if text := l.plain(it.Value(), true); text != "" {
					lines[name+" "+l.plain(it.Key(), false)] = text
				}
			}
		default:
			lines[name] = l.plain(f, true)
		}
	}
	return lines
}

// plain writes a value with all that is durable of it; things that have a name
// of their own and stand inside others are written by name.
func (l *lister) plain(v reflect.Value, whole bool) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		if !whole {
			switch v.Type() {
			case reflect.TypeFor[*entry](), reflect.TypeFor[*actorEntry](), reflect.TypeFor[*reminderEntry]():
				return l.name(v.Elem())
			}
		}
		if e := v.Elem(); v.Type() == reflect.TypeFor[*actorEntry]() && !durableActor(e) ||
			v.Type() == reflect.TypeFor[*hostEntry]() && e.FieldByName("running").Len() == 0 && e.FieldByName("placed").Len() == 0 ||
			v.Type() == reflect.TypeFor[*appEntry]() && e.FieldByName("generation").Uint() == 0 && e.FieldByName("services").Len() == 0 && e.FieldByName("open").Int() == 0 {
			return ""
		}
		return l.plain(v.Elem(), false)
	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			if f := v.Type().Field(i); !memoryOnly[v.Type().Name()+"."+f.Name] && !nothing(v.Field(i)) {
				if l.seen != nil {
					l.seen[v.Type().Name()+"."+f.Name] = true
				}
				parts = append(parts, f.Name+":"+l.plain(v.Field(i), false))
			}
		}
		return "{" + strings.Join(parts, " ") + "}"
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return text(v)
		}
		var parts []string
		for i := range v.Len() {
			parts = append(parts, l.plain(v.Index(i), false))
		}
		if e := v.Type().Elem(); e == reflect.TypeFor[*entry]() || e == reflect.TypeFor[*actorEntry]() {
			sort.Strings(parts) // in an index their order means nothing
		}
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.Map:
		var parts []string
		for it := v.MapRange(); it.Next(); {
			parts = append(parts, l.plain(it.Key(), false)+"="+l.plain(it.Value(), false))
		}
		sort.Strings(parts)
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v)
}

// nothing is left out; of bytes, nil and empty differ.
func nothing(v reflect.Value) bool {
	if v.Type() == reflect.TypeFor[line]() {
		return v.Field(0).Len() == 0
	}
	if k := v.Kind(); k == reflect.Map || k == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 {
		return v.Len() == 0
	}
	return v.IsZero()
}

func text(v reflect.Value) string {
	b := make([]byte, v.Len())
	for i := range b {
		b[i] = byte(v.Index(i).Uint())
	}
	if v.Type() == reflect.TypeFor[ID]() {
		return ID(b).String()
	}
	return fmt.Sprintf("%q", b)
}

func (l *lister) name(v reflect.Value) string {
	for _, f := range []string{"req", "actor", "Reminder"} {
		if x := v.FieldByName(f); x.IsValid() {
			if id := x.FieldByName("ID"); f == "req" {
				return l.plain(id, false)
			}
			return l.plain(x, false)
		}
	}
	return l.plain(v, false)
}

// durableActor tells an actor of which the log says something.
func durableActor(v reflect.Value) bool {
	return v.FieldByName("host").String() != "" || v.FieldByName("running").Int() > 0 ||
		!nothing(v.FieldByName("resting")) || !nothing(v.FieldByName("queue")) || v.FieldByName("zombies").Len() > 0
}

// differences of two lists: what every one has, and what only one has.
func differences(a, b map[string]string, mayMiss func(key string) bool) string {
	var diff []string
	for k, x := range a {
		switch y, ok := b[k]; {
		case !ok && !mayMiss(k):
			diff = append(diff, fmt.Sprintf("%s\n  is lost, was %s", k, x))
		case ok && x != y:
			diff = append(diff, fmt.Sprintf("%s\n  is  %s\n  was %s", k, y, x))
		}
	}
	for k, y := range b {
		if _, ok := a[k]; !ok {
			diff = append(diff, fmt.Sprintf("%s\n  is made up: %s", k, y))
		}
	}
	slices.Sort(diff)
	return strings.Join(diff, "\n")
}

func isForgettable(key string) bool {
	return slices.ContainsFunc(forgettable, func(p string) bool { return strings.HasPrefix(key, p) })
}

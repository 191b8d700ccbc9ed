package runtime

import (
	"encoding/binary"
	"maps"
	"slices"
	"sort"
	"strings"
)

// The store is a view of the log that lags behind it. What it may not hold yet
// is in the overlay: reads see overlay over store.

// A View is what a reader found in the store, with the position it is good for.
type View struct {
	Applied    uint64
	Generation uint64
	// Entries by store key; for scans, every key under the prefix.
	Entries map[string][]byte
	// Keys are those of StateKeys, for that generation, when the reader has them.
	Keys []string
	// Prefix is set when Entries are all there is under it, and nothing else.
	Prefix string
}

// An overlay holds recent changes by group (an actor's state, or one single key).
type overlay struct {
	groups map[string]*viewGroup
	recent []viewChange // in order: what the store has is forgotten from the front
	// Two ages of positions: what was applied to the store before the last
	// ageing is no longer needed by any reader that is quick enough.
	applied, aged, forgotten uint64
	agedAt                   int64
	pause                    int64 // how long an age is, 0 for overlayAge; longer after slow readers
	late                     bool  // one of this age was too slow
	lateAt                   int64
	stored                   int   // how many of recent the store has
	ahead                    int64 // bytes of those that it has not
	room                     int64 // bytes that may still be added to them, when that is bounded
	bound                    bool
}

type viewGroup struct {
	key     string
	cleared uint64            // everything before this position is gone
	maps    map[string]uint64 // the same of what lies under a prefix
	items   map[string]viewItem
	last    uint64
}

type viewChange struct {
	seq        uint64
	group, key string
	size       int64
}

type viewItem struct {
	seq     uint64
	value   []byte // nil: removed
	expires int64
}

func (o *overlay) group(key string) *viewGroup {
	g := o.groups[key]
	if g == nil {
		g = &viewGroup{key: key, items: map[string]viewItem{}}
		o.groups[key] = g
	}
	return g
}

// overlayAge is how long a reader may take from reading the store to asking
// the core before it has to read again, in milliseconds.
const overlayAge = 1000

// slowestAge is the same for those that were too slow again and again, as readers of a
// very large state are.
const slowestAge = 16_000

// slowFor is for how long slow readers are expected, in milliseconds.
const slowFor = 30_000

// tooOld tells that a view lacks what is no longer remembered.
func (o *overlay) tooOld(v *View) bool {
	if v == nil {
		return true
	}
	late := v.Applied < o.forgotten
	o.late = o.late || late
	return late
}

func (o *overlay) age(now int64) {
	pause := max(o.pause, overlayAge)
	if now-o.agedAt < pause {
		return
	}
	if o.late {
		o.pause, o.lateAt = min(2*pause, slowestAge), now
	} else if now-o.lateAt > slowFor {
		o.pause = 0
	}
	o.agedAt, o.late = now, false
	cut := o.aged
	o.aged = o.applied
	if cut <= o.forgotten {
		return
	}
	o.forget(cut)
}

// forget drops what the store has up to a position.
func (o *overlay) forget(cut uint64) {
	o.forgotten = cut
	for len(o.recent) > 0 && o.recent[0].seq <= cut {
		o.drop(&o.recent[0])
		o.recent[0] = viewChange{}
		o.recent = o.recent[1:]
		o.stored--
	}
}

// reach notes that the store has everything up to a position.
func (o *overlay) reach(seq uint64) {
	o.applied = max(o.applied, seq)
	for ; o.stored < len(o.recent) && o.recent[o.stored].seq <= o.applied; o.stored++ {
		o.ahead -= o.recent[o.stored].size
	}
}

// changeBytes is about what a change takes beside its keys and value while it
// waits for the store.
const changeBytes = 300

// Ahead is how many bytes of memory changes take that the store lacks.
func (c *Core) Ahead() int64 { return c.view.ahead }

// SetRoom says how many bytes of changes may be added on this node to those that
// the store lacks. A store that takes them keeps that far away.
func (c *Core) SetRoom(bytes int64) { c.view.room, c.view.bound = bytes, true }

// StoreHas lets go of what the folded records mean for the store. It is for who
// folds a log for its changes, and decides nothing.
func (c *Core) StoreHas() {
	c.view.reach(c.seq)
	c.view.forget(c.seq)
}

// roomFor refuses what brings the store changes that would wait in memory
// without a bound. A partition that the store has in full may always go on.
func (c *Core) roomFor(id ID, bytes int) *Error {
	if !c.view.bound || c.view.ahead == 0 || int64(bytes+changeBytes) <= c.view.room {
		return nil
	}
	return &Error{CodeStoreAway, "as many changes wait for the state store as may: it takes none, or not fast enough", id}
}

// drop forgets one change that the store has, unless a later one took its place.
func (o *overlay) drop(x *viewChange) {
	g := o.groups[x.group]
	if g == nil {
		return
	}
	if g.cleared == x.seq {
		g.cleared = 0
	}
	if g.maps[x.key] == x.seq {
		delete(g.maps, x.key)
	}
	if it, ok := g.items[x.key]; ok && it.seq == x.seq {
		delete(g.items, x.key)
	}
	if g.last <= x.seq {
		delete(o.groups, x.group)
	}
}

// StoreApplied says up to which position the store is complete.
type StoreApplied struct{ Seq uint64 }

func (in *StoreApplied) decide(c *Core) {
	c.view.reach(in.Seq)
}

// gone tells whether the log says that the store's value of a key is gone, for
// a view that is good for a position.
func (g *viewGroup) gone(key string, applied uint64) bool {
	if g == nil {
		return false
	}
	if g.cleared > applied {
		return true
	}
	return len(g.maps) > 0 && g.maps[g.mapOf(key)] > applied
}

// mapOf is the prefix of the map in which a key lies, or which it is.
func (g *viewGroup) mapOf(key string) string {
	rest, ok := strings.CutPrefix(key, g.key+"m")
	if !ok {
		return ""
	}
	_, behind, _ := cutPart([]byte(rest))
	return key[:len(key)-len(behind)]
}

// lookup is the value of a key as of now; again means that the view is too old to say.
func (c *Core) lookup(v *View, group, key string) (value []byte, again bool) {
	g := c.view.groups[group]
	if g != nil {
		if it, ok := g.items[key]; ok {
			return it.value, false
		}
	}
	switch {
	case v == nil && g.gone(key, 0):
		return nil, false
	case c.view.tooOld(v):
		return nil, true
	case g.gone(key, v.Applied):
		return nil, false
	}
	return v.Entries[key], false
}

// A StateScan is what an actor's state was when it was read, or a part of it, still to be
// merged from the view and what the log has added. That takes long for a large state, and
// is for who has asked: it needs the core no more.
type StateScan struct {
	group, prefix string
	entries       map[string][]byte // of the view, which nobody changes
	applied       uint64
	over          *viewGroup // copied; nil when nothing was added
}

// scan is what view and overlay have under a prefix of keys.
func (c *Core) scan(v *View, group, prefix string) (x *StateScan, again bool) {
	if c.view.tooOld(v) {
		return nil, true
	}
	x = &StateScan{group: group, prefix: prefix, entries: v.Entries, applied: v.Applied}
	if g := c.view.groups[group]; g != nil {
		x.over = &viewGroup{key: g.key, cleared: g.cleared, maps: maps.Clone(g.maps), items: maps.Clone(g.items)}
	}
	return x, false
}

// small tells that merging is no more work than other steps are.
func (x *StateScan) small() bool {
	n := len(x.entries)
	if x.over != nil {
		n += len(x.over.items)
	}
	return n <= smallScan
}

const smallScan = 1000

// Fields are all entries, sorted by Key, InMap, Sub.
func (x *StateScan) Fields() []Field {
	var fs []Field
	add := func(k string, value []byte) {
		if f, ok := fieldOf(x.group, k, value); ok {
			fs = append(fs, f)
		}
	}
	for k, value := range x.entries {
		if !strings.HasPrefix(k, x.prefix) || x.over.gone(k, x.applied) {
			continue
		}
		if x.over == nil {
			add(k, value)
		} else if _, newer := x.over.items[k]; !newer {
			add(k, value)
		}
	}
	if x.over != nil {
		for k, it := range x.over.items {
			if it.value != nil && strings.HasPrefix(k, x.prefix) {
				add(k, it.value)
			}
		}
	}
	sortFields(fs)
	return fs
}

// count is how many keys scan would find. What was read from the store for
// exactly this prefix is not looked at one by one: it may be very much.
func (c *Core) count(v *View, group, prefix string) (n int, again bool) {
	if c.view.tooOld(v) {
		return 0, true
	}
	g := c.view.groups[group]
	stored := !g.gone(prefix, v.Applied)
	if stored && (g == nil || len(g.maps) == 0) && v.Prefix == prefix {
		n = len(v.Entries)
	} else if stored {
		for k := range v.Entries {
			if strings.HasPrefix(k, prefix) && !g.gone(k, v.Applied) {
				n++
			}
		}
	}
	if g == nil {
		return n, false
	}
	for k, it := range g.items {
		if !strings.HasPrefix(k, prefix) {
			continue
		}
		_, held := v.Entries[k]
		held = held && !g.gone(k, v.Applied)
		switch {
		case held && it.value == nil:
			n--
		case !held && it.value != nil:
			n++
		}
	}
	return n, false
}

func (c *Core) reread(waiter any) {
	c.refuse(waiter, Errorf(CodeAskAgain, "the view of the store is too old"))
}

// change notes what a record means for the store, and in the overlay.
func (c *Core) change(seq uint64, group string, m Mutation) {
	c.changeAt(seq, group, string(m.Key), m)
}

// changeAt is change with the key of m as a string.
func (c *Core) changeAt(seq uint64, group, key string, m Mutation) {
	c.changed = max(c.changed, seq)
	g := c.view.group(group)
	g.last = seq
	size := int64(len(group) + len(key) + len(m.Value) + changeBytes)
	c.view.recent = append(c.view.recent, viewChange{seq, group, key, size})
	c.view.ahead += size
	c.view.room -= size
	switch {
	case m.Prefix && key == group:
		g.cleared = seq
		g.items, g.maps = map[string]viewItem{}, nil
	case m.Prefix:
		if g.maps == nil {
			g.maps = map[string]uint64{}
		}
		g.maps[key] = seq
		for k := range g.items {
			if strings.HasPrefix(k, key) {
				delete(g.items, k)
			}
		}
	default:
		g.items[key] = viewItem{seq, m.Value, m.Expires}
	}
	if n := len(c.changes); n > 0 && c.changes[n-1].Seq == seq {
		c.changes[n-1].Writes = append(c.changes[n-1].Writes, m)
		return
	}
	c.changes = append(c.changes, StoreChange{seq, []Mutation{m}})
}

// expect makes room for n changes of one record: growing bit by bit would cost more than
// the changes.
func (c *Core) expect(seq uint64, group string, n int) {
	if n < 2 {
		return
	}
	if g := c.view.group(group); len(g.items) == 0 {
		g.items = make(map[string]viewItem, n)
	}
	c.view.recent = slices.Grow(c.view.recent, n)
	if l := len(c.changes); l == 0 || c.changes[l-1].Seq != seq {
		c.changes = append(c.changes, StoreChange{Seq: seq, Writes: make([]Mutation, 0, n)})
	}
}

// Store keys. Parts are framed, so a prefix of parts is a prefix of bytes.

func appKey(app string, generation uint64) []byte {
	b := appendPart([]byte{'s'}, app)
	return binary.BigEndian.AppendUint64(b, generation)
}

// StatePrefix is under which all state of an app (typ "") or of a type lies.
func StatePrefix(app string, generation uint64, typ string) []byte {
	b := appKey(app, generation)
	if typ != "" {
		b = appendPart(b, typ)
	}
	return b
}

// ActorPrefix is under which the state of an actor lies.
func ActorPrefix(a Actor, generation uint64) []byte {
	return appendPart(appendPart(appKey(a.App, generation), a.Type), a.ID)
}

// ActorOfKey reads the actor from a state key under StatePrefix(app, generation, "").
func ActorOfKey(key []byte, app string, generation uint64) (Actor, bool) {
	p := len(appKey(app, generation))
	if len(key) < p {
		return Actor{}, false
	}
	typ, rest, ok := cutPart(key[p:])
	if !ok {
		return Actor{}, false
	}
	id, _, ok := cutPart(rest)
	return Actor{app, string(typ), string(id)}, ok
}

// FieldKey is where one entry of an actor's state lies.
func FieldKey(prefix []byte, f *Field) []byte {
	b := append(make([]byte, 0, len(prefix)+len(f.Key)+len(f.Sub)+8), prefix...)
	if !f.InMap {
		return appendPart(append(b, 'k'), f.Key)
	}
	return appendPart(appendPart(append(b, 'm'), f.Key), f.Sub)
}

// MapPrefix is under which a submap lies.
func MapPrefix(prefix []byte, key string) []byte {
	b := append(make([]byte, 0, len(prefix)+len(key)+4), prefix...)
	return appendPart(append(b, 'm'), key)
}

func fieldOf(prefix, key string, value []byte) (Field, bool) {
	b := []byte(key[len(prefix):])
	if len(b) == 0 {
		return Field{}, false
	}
	k, rest, ok := cutPart(b[1:])
	if !ok {
		return Field{}, false
	}
	f := Field{Key: string(k), Value: value}
	if b[0] == 'm' {
		sub, _, ok := cutPart(rest)
		if !ok {
			return Field{}, false
		}
		f.InMap, f.Sub = true, string(sub)
	}
	return f, true
}

func sortFields(fs []Field) {
	sort.Slice(fs, func(i, j int) bool {
		a, b := fs[i], fs[j]
		if a.Key != b.Key {
			return a.Key < b.Key
		}
		if a.InMap != b.InMap {
			return !a.InMap
		}
		return a.Sub < b.Sub
	})
}

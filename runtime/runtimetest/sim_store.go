package runtimetest

import (
	"maps"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A simStore is one partition's view of its log. Where the run says so it lags,
// goes away, and falls back to what it had saved.
type simStore struct {
	log     *simLog
	entries map[string]simItem
	applied uint64
	seen    *runtime.View // of the store as it is, until something expires
	away    int64         // until when nobody reaches it

	saved     map[string]simItem
	savedUpTo uint64
}

type simItem struct {
	value   []byte
	expires int64 // Unix second, 0 for never
}

// safe is up to where nothing can take back what was written.
func (v *simStore) safe() uint64 {
	if v.log.s.opt.Store {
		return v.savedUpTo
	}
	return v.applied
}

// save makes what is there safe, now and then.
func (v *simStore) save() {
	v.saved, v.savedUpTo = maps.Clone(v.entries), v.applied
	v.log.s.after(v.log.s.between(500, 5000), v.save)
}

// fallBack is a failover to a replica that lacks the last writes.
func (v *simStore) fallBack() {
	v.log.s.trace("store %d falls back from %d to %d", v.log.n, v.applied, v.savedUpTo)
	v.entries, v.applied, v.seen = maps.Clone(v.saved), v.savedUpTo, nil
}

// write applies changes that follow from; it refuses when it does not hold
// everything up to there.
func (v *simStore) write(from, to uint64, changes []runtime.StoreChange) bool {
	if v.applied < from {
		return false
	}
	for _, ch := range changes {
		if ch.Seq > v.applied {
			v.change(ch)
		}
	}
	v.applied, v.seen = max(v.applied, to), nil
	return true
}

func (v *simStore) change(ch runtime.StoreChange) {
	if v.entries == nil {
		v.entries = map[string]simItem{}
	}
	for _, m := range ch.Writes {
		switch {
		case m.Prefix:
			for k := range v.entries {
				if strings.HasPrefix(k, string(m.Key)) {
					delete(v.entries, k)
				}
			}
		case m.Value == nil:
			delete(v.entries, string(m.Key))
		default:
			v.entries[string(m.Key)] = simItem{m.Value, m.Expires}
		}
	}
}

// view is what a reader finds, nil when the store is away.
func (v *simStore) view() *runtime.View {
	s := v.log.s
	if v.away > s.now {
		return nil
	}
	if v.seen == nil || s.opt.Short {
		v.seen = &runtime.View{Applied: v.applied, Entries: make(map[string][]byte, len(v.entries))}
		for k, it := range v.entries {
			if it.expires == 0 || it.expires >= (simStart+s.now)/1000 {
				v.seen.Entries[k] = it.value
			}
		}
	}
	w := *v.seen
	return &w
}

// A simWriter brings an owner's durable changes into the store, in order.
type simWriter struct {
	o       *simOwner
	changes []runtime.StoreChange
	from    uint64 // the store held everything up to here when it answered last
	to      uint64 // what was durable when the last changes came
	busy    bool
}

func (w *simWriter) add(changes []runtime.StoreChange, to uint64) {
	w.changes, w.to = append(w.changes, changes...), max(w.to, to)
	if w.busy {
		return
	}
	if !w.o.n.s.opt.Store {
		w.send(w.to, len(w.changes))
		return
	}
	w.busy = true
	w.o.at(w.lag(), w.flush)
}

func (w *simWriter) lag() int64 {
	s := w.o.n.s
	if s.chance(5) {
		return s.between(0, 4000)
	}
	return s.between(0, 40)
}

// view is what somebody reads. Who sees that the store has fallen back has it healed,
// for perhaps nothing is left to be written.
func (w *simWriter) view() *runtime.View {
	v := w.o.log.store.view()
	if v != nil && v.Applied < w.from && !w.busy {
		w.heal()
	}
	return v
}

// flush sends what there is. The write arrives whatever becomes of the owner.
func (w *simWriter) flush() {
	s, to, n := w.o.n.s, w.to, len(w.changes)
	changes, from := w.changes[:n:n], w.from
	s.after(s.between(0, 30), func() {
		store := w.o.log.store
		done := store.away <= s.now && store.write(from, to, changes)
		w.o.at(s.between(0, 30), func() {
			w.busy = false
			switch {
			case done:
				w.landed(to, n)
			case store.away <= s.now:
				w.heal()
			default:
				w.busy = true
				w.o.at(300, w.flush)
			}
		})
	})
}

func (w *simWriter) send(to uint64, n int) {
	w.o.log.store.write(0, to, w.changes)
	w.landed(to, n)
}

func (w *simWriter) landed(to uint64, n int) {
	w.from, w.changes = to, w.changes[n:]
	w.o.push(&runtime.StoreApplied{Seq: to})
	if len(w.changes) > 0 || w.to > to {
		w.add(nil, w.to)
	}
}

// heal reads the log again: the store has fallen back behind what it held.
func (w *simWriter) heal() {
	l, s := w.o.log, w.o.n.s
	s.trace("node %d heals store %d, which is at %d", w.o.n.n, l.n, l.store.applied)
	s.report.Heals++
	reader := runtime.New(s.config(l.n, "reader"))
	l.fold(reader, l.full, l.start)
	if l.store.applied < l.cut {
		s.wit.fail("P10: store %d is at %d, the log begins at %d", l.n, l.store.applied, l.cut)
		return
	}
	w.changes, w.from, w.to = reader.TakeChanges(), l.store.applied, reader.Seq()
	w.add(nil, w.to)
}

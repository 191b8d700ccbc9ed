package runtime

import "sort"

// A line holds waiting entries by order, or by turn. An entry stands in it
// exactly as long as it waits there: none is left behind when it starts, ends or
// goes away.
type line struct {
	es     []*entry
	byTurn bool
}

func (l *line) place(e *entry) uint64 {
	if l.byTurn {
		return e.turn
	}
	return e.order
}

func (l *line) len() int { return len(l.es) }

// first is nil when nobody waits.
func (l *line) first() *entry {
	if len(l.es) == 0 {
		return nil
	}
	return l.es[0]
}

func (l *line) add(e *entry) {
	l.es = append(l.es, e)
	for i := len(l.es) - 1; i > 0 && l.place(l.es[i-1]) > l.place(e); i-- {
		l.es[i], l.es[i-1] = l.es[i-1], l.es[i]
	}
}

// remove takes out an entry whose place has not changed since it was added. The
// first one goes without moving the others: that is the usual case.
func (l *line) remove(e *entry) bool {
	i := sort.Search(len(l.es), func(i int) bool { return l.place(l.es[i]) >= l.place(e) })
	if i == len(l.es) || l.es[i] != e {
		return false
	}
	switch {
	case len(l.es) == 1 && cap(l.es) <= maxRecycled:
		l.es[0] = nil
		l.es = l.es[:0]
	case i == 0:
		l.es[0] = nil
		l.es = l.es[1:]
	default:
		copy(l.es[i:], l.es[i+1:])
		l.es[len(l.es)-1] = nil
		l.es = l.es[:len(l.es)-1]
	}
	return true
}

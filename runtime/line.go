package runtime

import (
	"cmp"
	"slices"
	"sort"
)

// A line holds waiting entries by order, or by turn. An entry stands in it
// exactly as long as it waits there: none is left behind when it starts, ends or
// goes away.
type line struct {
	es     []*entry
	late   []*entry // with places in front of others that had come before, and not yet among es
	byTurn bool
}

func (l *line) place(e *entry) uint64 {
	if l.byTurn {
		return e.turn
	}
	return e.order
}

func (l *line) len() int { return len(l.es) + len(l.late) }

// first is nil when nobody waits.
func (l *line) first() *entry {
	if l.settle(); len(l.es) == 0 {
		return nil
	}
	return l.es[0]
}

// all are those who wait, in order. Whoever changes the line has to ask again.
func (l *line) all() []*entry {
	l.settle()
	return l.es
}

// add costs little wherever the place is: thousands may come at once, each in front
// of tens of thousands, when the delay of old requests is over.
func (l *line) add(e *entry) {
	if n := len(l.es); n == 0 || l.place(l.es[n-1]) <= l.place(e) {
		l.es = append(l.es, e)
	} else {
		l.late = append(l.late, e)
	}
}

// settle moves who came late to their places.
func (l *line) settle() {
	n, k := len(l.es), len(l.late)
	if k == 0 {
		return
	}
	slices.SortStableFunc(l.late, func(a, b *entry) int { return cmp.Compare(l.place(a), l.place(b)) })
	l.es = append(l.es, l.late...)
	for end := n + k; k > 0; k-- {
		e := l.late[k-1]
		i := sort.Search(n, func(i int) bool { return l.place(l.es[i]) > l.place(e) })
		end -= copy(l.es[end-(n-i):end], l.es[i:n]) + 1
		l.es[end], n = e, i
	}
	clear(l.late)
	if l.late = l.late[:0]; cap(l.late) > maxRecycled {
		l.late = nil
	}
}

// remove takes out an entry whose place has not changed since it was added. The
// first one goes without moving the others: that is the usual case.
func (l *line) remove(e *entry) bool {
	l.settle()
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

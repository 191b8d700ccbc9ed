package runtime

import (
	"cmp"
	"slices"
)

// A roll lists what is open of one app, requests here and chains that are away, in
// the order in which it came: who goes through the work of an app, in pieces, meets
// none of its neighbours.
type roll struct {
	first, last *seat
	at          *seat // where the last look was, a seat that is there
}

// A seat is the place of an entry or of a home in a roll. A home that takes the
// place of its entry keeps the number.
type seat struct {
	prev, next *seat
	n          uint64 // grows along the roll; 0 when it is in none
	e          *entry
	h          *homeEntry // when e is nil
	b          *borrowing // when both are: among calls abroad
}

func (r *roll) add(s *seat, n uint64) {
	s.prev, s.next, s.n = r.last, nil, n
	if r.last != nil {
		r.last.next = s
	} else {
		r.first = s
	}
	r.last = s
}

func (r *roll) remove(s *seat) {
	if s.n == 0 {
		return
	}
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		r.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		r.last = s.prev
	}
	if r.at == s {
		r.at = s.next
	}
	s.prev, s.next, s.n = nil, nil, 0
}

// replace puts s into old's place.
func (r *roll) replace(old, s *seat) {
	s.prev, s.next, s.n = old.prev, old.next, old.n
	if s.prev != nil {
		s.prev.next = s
	} else {
		r.first = s
	}
	if s.next != nil {
		s.next.prev = s
	} else {
		r.last = s
	}
	if r.at == old {
		r.at = s
	}
	old.prev, old.next, old.n = nil, nil, 0
}

// behind is the first seat with a number above n. Looks that follow each other go
// on where the last one was.
func (r *roll) behind(n uint64) *seat {
	s := r.at
	if s == nil || s.prev != nil && s.prev.n > n {
		s = r.first
	}
	for s != nil && s.n <= n {
		s = s.next
	}
	r.at = s
	return s
}

// enrol gives what has come of an app its seat.
func (c *Core) enrol(app string, s *seat) {
	c.enrolled++
	c.app(app).roll.add(s, c.enrolled)
}

// openOf is the first thing that is open of an app and came after number n.
func (c *Core) openOf(app string, n uint64) *seat {
	if a := c.apps[app]; a != nil {
		return a.roll.behind(n)
	}
	return nil
}

// came is the record with which what sits there has come.
func (s *seat) came() uint64 {
	if s.e != nil {
		return s.e.came
	}
	return s.h.came
}

// sort puts a roll into the order in which all has come; the numbers stay where they are.
func (r *roll) sort() []*seat {
	var seats []*seat
	var ns []uint64
	for s := r.first; s != nil; s = s.next {
		seats, ns = append(seats, s), append(ns, s.n)
	}
	by := func(a, b *seat) int { return cmp.Compare(a.came(), b.came()) }
	if slices.IsSortedFunc(seats, by) {
		return seats
	}
	slices.SortStableFunc(seats, by)
	*r = roll{}
	for i, s := range seats {
		r.add(s, ns[i])
	}
	return seats
}

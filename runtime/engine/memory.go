package engine

import (
	"context"
	"sync/atomic"

	"github.com/karmesh/kar/runtime"
)

// A memory counts what accepted work takes on this node, and what changes take
// that wait for the store, in bytes. When half of the limit is taken, partitions
// let go of bodies, which the log holds; at the limit the outside door is closed.
type memory struct {
	limit int64 // 0 for none
	held  atomic.Int64
	// asking is what questions that are under way here bring along.
	asking atomic.Int64
	// ahead is what waiting changes take; room is what they may.
	ahead atomic.Int64
	room  int64
}

// A share is the part of a term.
type share struct {
	of          *memory
	held, ahead int64
}

// set counts anew, and reports what is too much.
func (s *share) set(held, ahead int64) (over int64) {
	s.of.ahead.Add(ahead - s.ahead)
	s.ahead = ahead
	now := s.of.held.Add(held - s.held)
	s.held = held
	if s.of.limit == 0 {
		return 0
	}
	return now + s.of.waiting() - s.of.limit/2
}

// spare is how much is left.
func (m *memory) spare() int64 { return m.limit - m.held.Load() - m.asking.Load() - m.waiting() }

// waiting is what waiting changes take of the limit. What a new owner finds in a
// log may be more; it must not keep work from the door that needs no store.
func (m *memory) waiting() int64 { return min(m.ahead.Load(), m.room) }

// weigh counts what the core of a term holds and lets go of what is too much.
func (t *term) weigh() {
	if over := t.share.set(t.core.Held(), 0); over > 0 {
		t.core.Shed(over)
		t.share.set(t.core.Held(), 0)
	}
}

// drop ends the share of a term that has not begun.
func (t *term) drop() {
	if t != nil {
		t.share.set(0, 0)
	}
}

// weigh is the same for the term that runs.
func (p *partition) weigh() {
	if over := p.share.set(p.core.Held(), p.core.Ahead()); over > 0 {
		p.core.Shed(over)
		p.share.set(p.core.Held(), p.core.Ahead())
	}
}

// A charge is what a question brings along. It counts for as long as somebody
// here asks it, or a queue or a round has it.
type charge struct {
	of      *memory
	bytes   int64
	holders atomic.Int32
}

func (m *memory) charge(bytes int) *charge {
	c := &charge{of: m, bytes: int64(bytes)}
	c.holders.Store(1)
	m.asking.Add(c.bytes)
	return c
}

func (c *charge) hold() *charge {
	if c != nil {
		c.holders.Add(1)
	}
	return c
}

func (c *charge) release() {
	if c != nil && c.holders.Add(-1) == 0 {
		c.of.asking.Add(-c.bytes)
	}
}

// door refuses a request from outside when those that are under way take all
// there is. It does not know which have been accepted before, so that it says
// nothing about an earlier try.
func (m *memory) door(r *runtime.Request, v *runtime.Vouched) *runtime.Error {
	if inside := r.Session != "" || v != nil && len(v.Parents) > 0; inside || m.limit == 0 || m.asking.Load() <= m.limit {
		return nil
	}
	return &runtime.Error{Code: runtime.CodeUnavailable, Detail: "the gateway has no memory left for more requests that wait to be accepted", ID: r.ID}
}

type chargeKey struct{}

// charged says that what is asked with the context counts already.
func charged(ctx context.Context, c *charge) context.Context {
	return context.WithValue(ctx, chargeKey{}, c)
}

func chargeOf(ctx context.Context) *charge {
	c, _ := ctx.Value(chargeKey{}).(*charge)
	return c
}

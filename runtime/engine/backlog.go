package engine

import (
	"sync/atomic"

	"github.com/karmesh/kar/runtime"
)

// A backlog is how many bytes a host attached here has said that partitions
// here have not looked at yet.
type backlog struct{ bytes atomic.Int64 }

const (
	// backlogLimit is where the stream of a host is broken; the join that follows
	// repairs it.
	backlogLimit = 256 << 20
	// inputBytes is what an input takes beside the body that it carries.
	inputBytes = 512
)

// A debt is an input in a queue that counts in a backlog.
type debt struct {
	of    *backlog
	bytes int64
}

// pushOf is a push of what a host has said.
func (p *partition) pushOf(of *backlog, size int, in runtime.Input) {
	if of != nil {
		d := debt{of, int64(size + inputBytes)}
		of.bytes.Add(d.bytes)
		p.mu.Lock()
		p.debts = append(p.debts, d)
		p.mu.Unlock()
	}
	p.push(in)
}

// settle takes from the backlogs what is about to be decided; p.mu is held.
func (p *partition) settle() {
	for _, d := range p.debts {
		d.of.bytes.Add(-d.bytes)
	}
	p.debts = p.debts[:0]
}

// backlogOf is the backlog of a host that is attached here. One that says more
// than can be decided loses its stream.
func (m *Mesh) backlogOf(boot string) *backlog {
	m.mu.Lock()
	g := m.attached[boot]
	m.mu.Unlock()
	if g == nil {
		return nil
	}
	if g.backlog.bytes.Load() > backlogLimit {
		if l, ok := g.link.(interface{ Break(reason string) }); ok {
			l.Break("it says more than can be decided")
		}
	}
	return &g.backlog
}

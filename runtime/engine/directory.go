package engine

import (
	"context"
	"sync"

	"github.com/karmesh/kar/runtime"
)

// A directory is what this node knows about who owns which partition. It is
// memory only and may be wrong: the log judges, and whoever is asked and is not
// the owner says so.
type directory struct {
	mu      sync.Mutex
	owners  []ownership
	changed []*signal
}

// An ownership is the last known term of a partition; node is "" when that
// owner is known to have stepped down.
type ownership struct {
	node  string
	epoch uint64
}

func newDirectory(partitions int) *directory {
	d := &directory{owners: make([]ownership, partitions), changed: make([]*signal, partitions)}
	for i := range d.changed {
		d.changed[i] = newSignal()
	}
	return d
}

func (d *directory) of(p uint16) ownership {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int(p) >= len(d.owners) {
		return ownership{}
	}
	return d.owners[p]
}

// learn takes the news that node owns p in a term; true when they are news.
func (d *directory) learn(p uint16, node string, epoch uint64) bool {
	d.mu.Lock()
	if int(p) >= len(d.owners) {
		d.mu.Unlock()
		return false
	}
	o := &d.owners[p]
	news := epoch > o.epoch || epoch == o.epoch && o.node == "" && node != ""
	if news {
		*o = ownership{node, epoch}
	}
	d.mu.Unlock()
	if news {
		d.changed[p].fire()
	}
	return news
}

// gone takes the news that node owns p no longer.
func (d *directory) gone(p uint16, node string) bool {
	d.mu.Lock()
	if int(p) >= len(d.owners) {
		d.mu.Unlock()
		return false
	}
	o := &d.owners[p]
	news := o.node == node
	if news {
		o.node = ""
	}
	d.mu.Unlock()
	if news {
		d.changed[p].fire()
	}
	return news
}

// all is a copy of the table.
func (d *directory) all() []ownership {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]ownership(nil), d.owners...)
}

// ofNode lists what a node is known to own.
func (d *directory) ofNode(node string) (ps []runtime.PartitionEpoch) {
	for p, o := range d.all() {
		if o.node == node {
			ps = append(ps, runtime.PartitionEpoch{Partition: uint16(p), Epoch: o.epoch})
		}
	}
	return ps
}

// wait returns when something is known of p that was not when was was read, or ctx ends.
func (d *directory) wait(ctx context.Context, p uint16, was ownership) {
	if int(p) >= len(d.changed) {
		<-ctx.Done()
		return
	}
	for {
		ch := d.changed[p].wait()
		if d.of(p) != was {
			return
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return
		}
	}
}

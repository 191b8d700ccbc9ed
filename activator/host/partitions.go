package host

import (
	"time"

	"github.com/karmesh/kar/runtime"
)

// A partition as this host sees it: who may speak for it, how long its owner's
// word holds, and what it has here. The host's mutex guards it.
type partition struct {
	epoch     uint64        // the highest seen
	mark      uint64        // see [runtime.TermSeen]
	kept      time.Duration // boot time at which the last beat that its owner answered was sent
	running   int           // attempts that have started and not ended
	instances []*instance   // in no order
	// lower is the word of an owner that the log has lost this epoch; it is
	// believed once nothing is held.
	lower *runtime.TermLost
}

// held tells whether it has anything here that a lease is for.
func (p *partition) held() bool { return p.running > 0 || len(p.instances) > 0 }

// partitions is the table of them, by number.
type partitions []*partition

// at returns an entry, which it makes when needed.
func (ps *partitions) at(n uint16) *partition {
	for len(*ps) <= int(n) {
		*ps = append(*ps, &partition{})
	}
	return (*ps)[n]
}

// admit tells whether a message of this epoch may be obeyed, and remembers the epoch.
func (ps *partitions) admit(n uint16, epoch uint64) bool {
	p := ps.at(n)
	if epoch < p.epoch {
		return false
	}
	p.epoch = epoch
	return true
}

// seen is what this host knows of a partition's term.
func (ps *partitions) seen(n uint16) runtime.TermSeen {
	p := ps.at(n)
	return runtime.TermSeen{Partition: n, Epoch: p.epoch, Mark: p.mark}
}

// fence raises the epochs. It returns the part of the list that may be
// answered, and what is known where the term in the list is over.
func (ps *partitions) fence(list []runtime.PartitionEpoch) (fresh []runtime.PartitionEpoch, later []runtime.TermSeen) {
	for _, e := range list {
		if ps.admit(e.Partition, e.Epoch) {
			fresh = append(fresh, e)
			ps.at(e.Partition).mark++
			continue
		}
		later = append(later, ps.seen(e.Partition))
	}
	return fresh, later
}

// add puts inst into its partition.
func (ps *partitions) add(inst *instance) {
	p := ps.at(inst.partition)
	inst.place = len(p.instances)
	p.instances = append(p.instances, inst)
}

// remove takes inst out of its partition.
func (ps *partitions) remove(inst *instance) {
	p := ps.at(inst.partition)
	end := len(p.instances) - 1
	p.instances[inst.place] = p.instances[end]
	p.instances[inst.place].place = inst.place
	p.instances[end] = nil
	p.instances = p.instances[:end]
	if end == 0 {
		p.instances = nil
	}
}

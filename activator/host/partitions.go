package host

import (
	"time"

	"github.com/karmesh/kar/runtime"
)

// A partition as this host sees it: who may speak for it, how long its owner's
// word holds, and what it has here. The host's mutex guards it.
type partition struct {
	epoch     uint64        // the highest seen
	kept      time.Duration // boot time at which the last beat that its owner answered was sent
	running   int           // attempts that have started and not ended
	instances []*instance   // in no order
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

// fence raises the epochs. It returns the part of the list that may be
// answered, and the partitions whose term in the list is over.
func (ps *partitions) fence(list []runtime.PartitionEpoch) (fresh []runtime.PartitionEpoch, stale map[uint16]bool) {
	for _, e := range list {
		if ps.admit(e.Partition, e.Epoch) {
			fresh = append(fresh, e)
			continue
		}
		if stale == nil {
			stale = map[uint16]bool{}
		}
		stale[e.Partition] = true
	}
	return fresh, stale
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

package activator

import (
	"errors"
	"fmt"
	"slices"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// joining collects the pieces of a list of what a host runs and holds. What is
// said twice counts once, so that what the owners do is linear in what was sent.
type joining struct {
	partitions int
	size       int
	epochs     map[uint16]uint64
	later      map[uint16]runtime.TermSeen
	running    map[runtime.Attempt]struct{}
	instances  map[runtime.Actor]struct{}
	join       runtime.JoinAnswer
}

// add tells whether m was the last piece.
func (j *joining) add(m *tunnel.Joined) (ended bool, err error) {
	j.size += 64 * (len(m.Running) + len(m.Instances) + len(m.Epochs) + len(m.Later))
	for _, a := range m.Instances {
		j.size += len(a.App) + len(a.Type) + len(a.ID)
	}
	if j.size > joinLimit {
		return false, errors.New("it runs and holds more than fits into a join")
	}
	if j.epochs == nil {
		j.epochs, j.running, j.instances = map[uint16]uint64{}, map[runtime.Attempt]struct{}{}, map[runtime.Actor]struct{}{}
	}
	for _, e := range m.Epochs {
		if int(e.Partition) >= j.partitions {
			return false, fmt.Errorf("it joins partition %d of %d", e.Partition, j.partitions)
		}
		j.epochs[e.Partition] = max(e.Epoch, j.epochs[e.Partition])
	}
	for _, t := range m.Later {
		if int(t.Partition) >= j.partitions {
			return false, fmt.Errorf("it knows partition %d of %d", t.Partition, j.partitions)
		}
		if j.later == nil {
			j.later = map[uint16]runtime.TermSeen{}
		}
		j.later[t.Partition] = t
	}
	for _, a := range m.Running {
		if _, again := j.running[a]; !again && int(a.Partition) < j.partitions {
			j.running[a] = struct{}{}
			j.join.Running = append(j.join.Running, a)
		}
	}
	for _, a := range m.Instances {
		if _, again := j.instances[a]; !again {
			j.instances[a] = struct{}{}
			j.join.Instances = append(j.join.Instances, a)
		}
	}
	return !m.More, nil
}

// whole is the join, when all of it has come. Its epochs are never nil: a host
// that answers for no partition has answered.
func (j *joining) whole() runtime.JoinAnswer {
	join := j.join
	join.Epochs = make([]runtime.PartitionEpoch, 0, len(j.epochs))
	for p, e := range j.epochs {
		join.Epochs = append(join.Epochs, runtime.PartitionEpoch{Partition: p, Epoch: e})
	}
	slices.SortFunc(join.Epochs, func(a, b runtime.PartitionEpoch) int { return int(a.Partition) - int(b.Partition) })
	for _, t := range j.later {
		join.Later = append(join.Later, t)
	}
	slices.SortFunc(join.Later, func(a, b runtime.TermSeen) int { return int(a.Partition) - int(b.Partition) })
	return join
}

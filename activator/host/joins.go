package host

import (
	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// joinRound is about how many instances are listed at a time: others that need
// the mutex wait a millisecond and not a tenth of a second.
const joinRound = 2000

// joinAsk answers a new owner, or one that has missed something, for some
// partitions; the reader calls it.
func (h *Host) joinAsk(m *runtime.JoinAsk) {
	for list := m.Epochs; len(list) > 0; {
		list = h.joinSome(list)
	}
}

// joinSome answers for the first partitions of the list and returns the others.
// Everything is queued under the mutex: what ends later is told behind it.
func (h *Host) joinSome(list []runtime.PartitionEpoch) (rest []runtime.PartitionEpoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, instances := 0, 0
	for n < len(list) && instances < joinRound {
		instances += len(h.parts.at(list[n].Partition).instances)
		n++
	}
	list, rest = list[:n], list[n:]
	fresh, later := h.parts.fence(list)
	if h.exited || h.conn == nil || len(fresh)+len(later) == 0 {
		return rest
	}
	asked := make(map[uint16]bool, len(fresh))
	for _, e := range fresh {
		asked[e.Partition] = true
	}
	finished, running := h.attempts.snapshot(func(p uint16) bool { return asked[p] })
	joined := &tunnel.Joined{Epochs: fresh, Running: running, Later: later}
	var large []*tunnel.Answer
	for i := range finished {
		a := &tunnel.Answer{Answer: finished[i]}
		joined.Running = append(joined.Running, a.Attempt) // see [runtime.JoinAnswer]
		if a.Outcome != nil && size(a.Outcome) > tunnel.KeepsOrder {
			large = append(large, a)
			continue
		}
		h.conn.Send(a)
	}
	for p := range asked {
		for _, inst := range h.parts.at(p).instances {
			joined.Instances = append(joined.Instances, inst.actor)
		}
	}
	for _, piece := range joined.Pieces() {
		h.conn.Send(&tunnel.PartJoined{Joined: *piece})
	}
	for _, a := range large {
		h.conn.Send(a)
	}
	return rest
}

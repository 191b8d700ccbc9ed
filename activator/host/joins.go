package host

import (
	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// joinAsk answers a new owner, or one that has missed something, for some
// partitions; the reader calls it. Everything is queued under the mutex: what
// ends later is told behind it.
func (h *Host) joinAsk(m *runtime.JoinAsk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh, _ := h.parts.fence(m.Epochs)
	if h.exited || h.conn == nil || len(fresh) == 0 {
		return
	}
	asked := make(map[uint16]bool, len(fresh))
	for _, e := range fresh {
		asked[e.Partition] = true
	}
	finished, running := h.attempts.snapshot(func(p uint16) bool { return asked[p] })
	joined := &tunnel.Joined{Epochs: fresh, Running: running}
	var large []*tunnel.Answer
	for i := range finished {
		a := &tunnel.Answer{Answer: finished[i]}
		if a.Outcome != nil && size(a.Outcome) > tunnel.KeepsOrder {
			joined.Running = append(joined.Running, a.Attempt)
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
}

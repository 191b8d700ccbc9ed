package host

import (
	"github.com/karmesh/kar/runtime"
)

// What this host knows may be of a log that is gone: an older copy was put back, or
// the gateway is one of another mesh. Nothing new is taken before what runs or is
// active of that has ended, so that the two do not overlap.

// termLost lets a partition go back to an earlier term; the reader calls it.
func (h *Host) termLost(m *runtime.TermLost) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts.at(m.Partition)
	if h.exited || !m.Obeyed(h.parts.seen(m.Partition)) {
		return
	}
	waits := p.lower != nil
	if p.lower = m; waits {
		return
	}
	h.cfg.Logger.Warn("the log of a partition has lost what this component knows of; it goes on when what runs of that has ended",
		"partition", m.Partition, "term", m.Epoch, "later", m.Seen.Epoch, "running", p.running, "actors", len(p.instances))
	h.wait.Go(func() { h.lower(m.Partition) })
}

// lower ends what a partition holds and then joins its owner.
func (h *Host) lower(n uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts.at(n)
	for h.holds(n) {
		h.dismiss(n)
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-h.ctx.Done():
		}
		h.mu.Lock()
		if h.ctx.Err() != nil {
			return
		}
	}
	m := p.lower
	p.lower = nil
	if m == nil || !m.Obeyed(h.parts.seen(n)) {
		return // a later owner has come
	}
	p.epoch = m.Epoch
	h.mu.Unlock()
	h.joinAsk(&runtime.JoinAsk{Epochs: []runtime.PartitionEpoch{{Partition: n, Epoch: m.Epoch}}})
	h.mu.Lock()
}

// holds tells whether anything of a partition runs, is active or waits to start;
// h.mu is held.
func (h *Host) holds(n uint16) bool {
	if h.parts.at(n).held() {
		return true
	}
	for _, m := range h.late {
		if m.Attempt.Partition == n {
			return true
		}
	}
	return false
}

// dismiss has the actors of a partition deactivated; h.mu is held.
func (h *Host) dismiss(n uint16) {
	p := h.parts.at(n)
	for _, inst := range p.instances {
		if h.ending[inst.actor] == nil {
			h.beginEnd(&ending{m: &runtime.Deactivate{Actor: inst.actor, Partition: n, Epoch: p.epoch}})
		}
	}
}

// meet takes the name of the mesh whose gateway was met. Another mesh than before
// has this host when nothing of the other's is left here; until then it is refused,
// and when the lease ends the host does.
func (h *Host) meet(mesh string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case mesh == "" || h.mesh == "" || mesh == h.mesh:
		if mesh != "" {
			h.mesh = mesh
		}
		h.another = ""
		return nil
	case h.exited:
		return runtime.Errorf(runtime.CodeForeign, "the gateway is one of another mesh")
	}
	left := false
	for n := range h.parts {
		if h.holds(uint16(n)) {
			left = true
			h.dismiss(uint16(n))
		}
	}
	if left || len(h.ending) > 0 {
		h.another = mesh
		return runtime.Errorf(runtime.CodeForeign, "the gateway is one of another mesh, and work of the mesh before has not ended here")
	}
	h.cfg.Logger.Warn("the gateway is one of another mesh, or its log was replaced: this component goes on there")
	h.mesh, h.another = mesh, ""
	for _, p := range h.parts {
		p.epoch, p.lower = 0, nil
		p.mark++
	}
	h.attempts, h.unsent = newAttempts(h.cfg.KeepLimit), nil
	return nil
}

// abandon ends this host, whose work is another mesh's than that of its gateways;
// h.mu is held.
func (h *Host) abandon() {
	h.lost = runtime.Errorf(runtime.CodeHostLost, "the gateway is one of another mesh, and work of the mesh before has not ended within the lease")
	if h.cfg.Guard != nil {
		h.cfg.Guard.Kill(h.lost.Detail)
	}
	h.stop()
}

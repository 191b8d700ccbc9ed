package host

import (
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// easeAtOnce bounds the deactivations that the host begins on its own.
const easeAtOnce = 32

// leaseStep is what is to be done about a partition at a boot time; h.mu is held.
func (h *Host) leaseStep(p *partition, now time.Duration) runtime.LeaseStep {
	return runtime.NextLeaseStep(now-p.kept, now-h.leaseInfo.heard, h.lease)
}

// ease deactivates the idle actors of owners that are silent while others are
// heard, so that their lease has nothing to end for; h.mu is held.
func (h *Host) ease() {
	l, n := &h.leaseInfo, 0
	if l.frozen || h.easable(&n) == nil {
		return
	}
	for ; l.easing < easeAtOnce; l.easing++ {
		h.wait.Go(h.easeOn)
	}
}

// easeOn deactivates one actor after the other.
func (h *Host) easeOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.leaseInfo.easing-- }()
	for n := 0; h.ctx.Err() == nil && !h.leaseInfo.frozen; {
		inst := h.easable(&n)
		if inst == nil {
			return
		}
		// Nobody has asked for it, so nobody is told, unless somebody asks meanwhile.
		if h.quit(inst) != nil {
			return
		}
	}
}

// easable is the next idle actor of a silent owner, from partition n on, nil when
// there is none; h.mu is held.
func (h *Host) easable(n *int) *instance {
	now := tunnel.BootTime()
	for ; *n < len(h.parts); *n++ {
		p := h.parts[*n]
		if len(p.instances) == 0 || h.leaseStep(p, now) != runtime.LeaseEases {
			continue
		}
		for i := len(p.instances) - 1; i >= 0; i-- {
			inst := p.instances[i]
			if inst.state == active && h.ending[inst.actor] == nil && h.calls[inst.actor] == h.waiting(inst.actor) {
				return inst
			}
		}
	}
	return nil
}

// waiting counts the attempts on an actor that may not start; h.mu is held.
func (h *Host) waiting(actor runtime.Actor) (n int) {
	if h.calls[actor] == 0 {
		return 0
	}
	for _, m := range h.late {
		if m.Target.Actor() == actor {
			n++
		}
	}
	return n
}

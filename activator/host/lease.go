package host

import (
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// leaseState is the host's own view of its lease; the host's mutex guards it.
type leaseState struct {
	seq    uint64
	sent   []sentBeat    // not answered yet, in order
	kept   time.Duration // boot time at which the last answered beat was sent
	begun  bool
	frozen bool
	next   time.Duration // boot time of the next beat
}

type sentBeat struct {
	seq uint64
	at  time.Duration
}

// restart begins the lease with the join, which the owners take as contact;
// it renews nothing.
func (l *leaseState) restart(joined time.Duration) {
	l.sent = nil
	if !l.begun {
		l.begun, l.kept = true, joined
	}
}

// beat sends a sign of life; h.mu is held.
func (h *Host) beat(c *tunnel.Conn) {
	l := &h.leaseInfo
	now := bootTime()
	l.seq++
	l.sent = append(l.sent, sentBeat{l.seq, now})
	if len(l.sent) > 64 {
		l.sent = l.sent[1:]
	}
	l.next = now + h.lease/4
	c.Send(&tunnel.Beat{Seq: l.seq})
}

// kept renews the lease from the moment at which the answered beat was sent.
func (h *Host) kept(m *tunnel.BeatAnswer) {
	if !m.Kept {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &h.leaseInfo
	for i, b := range l.sent {
		if b.seq != m.Seq {
			continue
		}
		l.kept = max(l.kept, b.at)
		l.sent = l.sent[i+1:]
		break
	}
	if l.frozen && bootTime()-l.kept < h.lease {
		l.frozen = false
		h.cfg.Logger.Info("the lease is kept again, the app goes on")
		if h.cfg.Guard != nil {
			h.cfg.Guard.Thaw()
		}
	}
}

// keepLease beats, and freezes the app when the lease runs out while it holds
// work or instances. It also looks after calls that wait for long.
func (h *Host) keepLease() {
	for {
		h.mu.Lock()
		if h.conn != nil && bootTime() >= h.leaseInfo.next {
			h.beat(h.conn)
		}
		h.checkLease()
		every := min(max(h.lease/24, 5*time.Millisecond), 250*time.Millisecond)
		if !h.leaseInfo.begun {
			every = 20 * time.Millisecond // the lease is not known yet
		}
		h.flushGot()
		waiting := h.longWaiting()
		h.mu.Unlock()
		for _, c := range waiting {
			h.cfg.OnWaiting(c.req.ID, c.target, time.Since(c.since))
		}
		if !sleep(h.ctx, every) {
			return
		}
	}
}

// checkLease freezes when it must; h.mu is held, so nothing starts meanwhile.
func (h *Host) checkLease() {
	l := &h.leaseInfo
	if l.frozen || !l.begun || h.exited || h.attempts.running == 0 && len(h.instances) == 0 {
		return
	}
	if bootTime()-l.kept <= h.lease {
		return
	}
	l.frozen = true
	h.cfg.Logger.Warn("the lease ran out, the app is frozen until the gateway answers", "lease", h.lease)
	if h.cfg.Guard != nil {
		h.cfg.Guard.Freeze()
	}
}

// holds tells what a lease is for; for tests and messages.
func (h *Host) holds() (running int, instances []runtime.Actor) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for a := range h.instances {
		instances = append(instances, a)
	}
	return h.attempts.running, instances
}

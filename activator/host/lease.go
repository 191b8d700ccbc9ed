package host

import (
	"slices"
	"strings"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// leaseState is the host's own view of its lease, which it has from the owner
// of each partition; see [partition]. The host's mutex guards it.
type leaseState struct {
	seq    uint64
	sent   []sentBeat // not answered yet, in order
	begun  bool
	frozen bool
	next   time.Duration // boot time of the next beat
	// answered is the boot time of the last answer, whatever it said.
	answered time.Duration
	heard    time.Duration // the latest [partition.kept]
	easing   int           // goroutines that deactivate actors of silent owners
}

type sentBeat struct {
	seq uint64
	at  time.Duration
}

// beginLease begins the lease with the first join, which the owners take as
// contact; a later one renews nothing. h.mu is held.
func (h *Host) beginLease(joined time.Duration) {
	l := &h.leaseInfo
	l.sent = nil
	if l.begun {
		return
	}
	l.begun = true
	for _, p := range h.parts {
		p.kept = joined
	}
	l.heard = joined
}

// beat sends a sign of life; h.mu is held.
func (h *Host) beat(c *tunnel.Conn) {
	l := &h.leaseInfo
	now := tunnel.BootTime()
	l.seq++
	l.sent = append(l.sent, sentBeat{l.seq, now})
	if len(l.sent) > 64 {
		l.sent = l.sent[1:]
	}
	l.next = now + h.lease/4
	c.Send(&tunnel.Beat{Seq: l.seq})
}

// beatNow sends one before its time unless an answer is under way; h.mu is held.
func (h *Host) beatNow() {
	if h.conn != nil && len(h.leaseInfo.sent) == 0 {
		h.beat(h.conn)
	}
}

// kept renews the lease from the moment at which the answered beat was sent.
func (h *Host) kept(m *tunnel.BeatAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &h.leaseInfo
	l.answered = tunnel.BootTime()
	if m.Gateways != nil {
		h.gateways.tell(m.Gateways)
	}
	i := slices.IndexFunc(l.sent, func(b sentBeat) bool { return b.seq == m.Seq })
	if i < 0 {
		return
	}
	at := l.sent[i].at
	h.clock.heard(m.WallMillis, at, l.answered)
	if !m.Kept {
		l.sent = slices.Delete(l.sent, i, i+1)
		return
	}
	l.sent = l.sent[i+1:]
	silent := make(map[uint16]bool, len(m.Silent))
	for _, p := range m.Silent {
		silent[p] = true
	}
	for n, p := range h.parts {
		if !silent[uint16(n)] {
			p.kept = max(p.kept, at)
			l.heard = max(l.heard, at)
		}
	}
	h.checkLease()
}

// keepLease beats, and freezes the app when the lease runs out for work or
// instances that it holds. It also looks after calls that wait for long.
func (h *Host) keepLease() {
	for {
		h.mu.Lock()
		if h.conn != nil && tunnel.BootTime() >= h.leaseInfo.next {
			h.beat(h.conn)
		}
		h.checkLease()
		h.checkGateway()
		every := min(max(h.lease/24, 5*time.Millisecond), 250*time.Millisecond)
		if !h.leaseInfo.begun {
			every = 20 * time.Millisecond // the lease is not known yet
		}
		h.flushGot()
		waiting := h.longWaiting()
		h.mu.Unlock()
		for _, c := range waiting {
			h.cfg.OnWaiting(c.target, time.Since(c.since))
		}
		if h.cfg.OnTurn != nil {
			h.cfg.OnTurn()
		}
		if !sleep(h.ctx, every) {
			return
		}
	}
}

// checkLease freezes and thaws as it must, and starts what has waited for its
// lease; h.mu is held, so nothing else starts meanwhile.
func (h *Host) checkLease() {
	l := &h.leaseInfo
	if !l.begun || h.exited {
		return
	}
	h.ease()
	now := tunnel.BootTime()
	over := slices.IndexFunc(h.parts, func(p *partition) bool { return p.held() && h.leaseStep(p, now) == runtime.LeaseOver })
	switch {
	case over >= 0 && h.another != "":
		h.abandon()
		return
	case over >= 0 && !l.frozen:
		l.frozen = true
		p := h.parts[over]
		if h.cfg.Guard != nil {
			h.cfg.Guard.Freeze()
		}
		h.cfg.Logger.Warn("the owner of a partition has not been heard for the length of a lease, and work of it runs here: the app is frozen until it answers",
			"lease", h.lease, "partition", over, "running", p.running, "actors", len(p.instances), "othersAnswer", now-l.heard <= h.lease)
		h.tellCondition()
	case over < 0 && l.frozen:
		l.frozen = false
		if h.cfg.Guard != nil {
			h.cfg.Guard.Thaw()
		}
		h.cfg.Logger.Info("the lease is kept again, the app goes on")
		h.tellCondition()
	}
	if len(h.late) == 0 || l.frozen {
		return
	}
	rest := h.late[:0]
	for _, m := range h.late {
		p := h.parts.at(m.Attempt.Partition)
		if h.leaseStep(p, now) != runtime.LeaseHolds {
			rest = append(rest, m)
			continue
		}
		p.running++
		h.wait.Go(func() { h.work(m) })
	}
	clear(h.late[len(rest):])
	h.late = rest
}

// checkGateway gives up a connection on which no beats are answered while another can
// still renew the lease: the gateway may have been stopped, or the network may have lost
// the connection without a word. With one address only the latter is worth a new one;
// such a connection is silent, and a busy machine may look like it for a while, so that
// more of the lease passes first. A socket has no network; h.mu is held.
func (h *Host) checkGateway() {
	if h.conn == nil || !h.up || strings.HasPrefix(h.gateways.configured[0], "unix://") {
		return
	}
	limit, silence := max(h.lease/2, time.Second), time.Duration(0)
	if len(h.gateways.configured)+len(h.gateways.told) == 1 {
		silence = max(h.lease*2/3, time.Second)
	}
	if tunnel.BootTime()-h.leaseInfo.answered > limit && h.conn.Quiet() >= silence {
		h.cfg.Logger.Warn("the gateway does not answer, dialling again")
		h.conn.Close()
	}
}

// mayStart tells whether the lease of a partition allows more of its work; h.mu
// is held. That an owner has sent it is no proof that it still is the owner.
func (h *Host) mayStart(n uint16) bool {
	return !h.leaseInfo.frozen && h.leaseStep(h.parts.at(n), tunnel.BootTime()) == runtime.LeaseHolds
}

// active are the actors that are active here.
func (h *Host) active() []runtime.Actor {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]runtime.Actor, 0, len(h.instances))
	for a := range h.instances {
		out = append(out, a)
	}
	return out
}

// condition is what the owners are told of this host beside what it runs; h.mu is held.
func (h *Host) condition() tunnel.Changed {
	return tunnel.Changed{Draining: h.draining || !h.listening, Frozen: h.leaseInfo.frozen}
}

// tellCondition says it on the stream; without one the next join does. h.mu is held.
func (h *Host) tellCondition() {
	if h.conn != nil {
		now := h.condition()
		h.conn.Send(&now)
	}
}

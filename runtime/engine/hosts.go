package engine

import (
	"context"
	"sort"
	"time"

	"github.com/karmesh/kar/runtime"
)

var _ runtime.Owners = (*Mesh)(nil)

// Epochs implements runtime.Owners.
func (m *Mesh) Epochs() []runtime.PartitionEpoch {
	es := make([]runtime.PartitionEpoch, len(m.parts))
	for i, p := range m.parts {
		es[i] = runtime.PartitionEpoch{Partition: p.n, Epoch: p.epoch.Load()}
	}
	return es
}

// send passes a message on; without a link it vanishes and the next join repairs it.
func (m *Mesh) send(boot string, msg runtime.HostMessage) {
	m.mu.Lock()
	l := m.links[boot]
	m.mu.Unlock()
	if l != nil {
		l.Send(msg)
	}
}

// joinTimeout bounds how long an attaching host waits for its owners.
const joinTimeout = 10 * time.Second

// HostUp implements runtime.Owners: every partition hears of the boot, with
// its part of what the boot runs and holds.
func (m *Mesh) HostUp(h runtime.HostInfo, join runtime.JoinAnswer, link runtime.Link) error {
	if h.Grace == 0 {
		h.Grace = m.cfg.Lease.Milliseconds()
	}
	m.mu.Lock()
	m.links[h.Boot] = link
	m.hosts[h.Boot] = h
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), joinTimeout)
	defer cancel()
	ws := make([]*waiter, len(m.parts))
	for i, p := range m.parts {
		ws[i] = newWaiter()
		p.push(&runtime.HostJoined{Info: h, Join: m.partOf(join, p.n), Waiter: ws[i]})
	}
	var failed error
	for _, w := range ws {
		select {
		case r := <-w.ch:
			if r.err != nil && failed == nil {
				failed = r.err
			}
		case <-ctx.Done():
			failed = runtime.Errorf(runtime.CodeUnavailable, "the owners did not take the host in time")
		}
	}
	if failed != nil {
		m.LinkDown(h.Boot, link)
	}
	return failed
}

func (m *Mesh) partOf(j runtime.JoinAnswer, n uint16) runtime.JoinAnswer {
	if len(m.parts) == 1 {
		return j
	}
	var out runtime.JoinAnswer
	for _, a := range j.Running {
		if a.Partition == n {
			out.Running = append(out.Running, a)
		}
	}
	for _, a := range j.Finished {
		if a.Attempt.Partition == n {
			out.Finished = append(out.Finished, a)
		}
	}
	for _, a := range j.Instances {
		if runtime.ActorPartition(a, len(m.parts)) == n {
			out.Instances = append(out.Instances, a)
		}
	}
	return out
}

// HostChanged implements runtime.Owners.
func (m *Mesh) HostChanged(h runtime.HostInfo) {
	m.mu.Lock()
	if old, ok := m.hosts[h.Boot]; ok && h.Grace == 0 {
		h.Grace = old.Grace
	}
	m.hosts[h.Boot] = h
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostChanged{Info: h})
	}
}

// LinkDown implements runtime.Owners.
func (m *Mesh) LinkDown(boot string, link runtime.Link) {
	m.mu.Lock()
	mine := m.links[boot] == link
	if mine {
		delete(m.links, boot)
		delete(m.hosts, boot)
	}
	m.mu.Unlock()
	if mine {
		for _, p := range m.parts {
			p.push(&runtime.HostUnlinked{Boot: boot})
		}
	}
}

// HostDown implements runtime.Owners.
func (m *Mesh) HostDown(boot, reason string) {
	m.mu.Lock()
	delete(m.links, boot)
	delete(m.hosts, boot)
	m.mu.Unlock()
	for _, p := range m.parts {
		p.push(&runtime.HostDown{Boot: boot, Reason: reason})
	}
}

// lost tells a host that it was counted lost; it has to stop its app.
func (m *Mesh) lost(boot, reason string) {
	m.cfg.Logger.Warn("host lost", "boot", boot, "reason", reason)
	m.send(boot, &runtime.Verdict{Reason: reason})
	m.mu.Lock()
	delete(m.links, boot)
	delete(m.hosts, boot)
	m.mu.Unlock()
}

// beatTimeout is how long a beat waits for the owners to prove that they are.
const beatTimeout = time.Second

// Beat implements runtime.Owners. Every partition must say "kept" for the
// lease to be renewed, in order with its own decisions: a partition that has
// just counted the host lost cannot be overtaken by an older "kept".
func (m *Mesh) Beat(boot string) (silent []uint16, lost bool) {
	ctx, cancel := context.WithTimeout(context.Background(), beatTimeout)
	defer cancel()
	ws := make([]*waiter, len(m.parts))
	for i, p := range m.parts {
		ws[i] = newWaiter()
		p.push(&runtime.HostBeat{Boot: boot, Waiter: ws[i]})
	}
	for p, w := range ws {
		select {
		case r := <-w.ch:
			switch kept, _ := r.value.(bool); {
			case r.err != nil:
				silent = append(silent, uint16(p))
			case !kept:
				return nil, true
			}
		case <-ctx.Done():
			silent = append(silent, uint16(p))
		}
	}
	return silent, false
}

// Gateways implements runtime.Owners.
func (m *Mesh) Gateways() []string { return nil }

// Joined implements runtime.Owners.
func (m *Mesh) Joined(string, []runtime.PartitionEpoch, runtime.JoinAnswer) {}

// Answered implements runtime.Owners.
func (m *Mesh) Answered(boot string, a runtime.Answer) {
	if p := m.part(a.Attempt.Partition); p != nil {
		p.push(&runtime.Answered{Boot: boot, Answer: a})
	}
}

// Deactivated implements runtime.Owners.
func (m *Mesh) Deactivated(boot string, a runtime.Actor, partition uint16) {
	if p := m.part(partition); p != nil {
		p.push(&runtime.Deactivated{Boot: boot, Actor: a})
	}
}

// rejoin asks every host to join again, after a partition was rebuilt.
func (m *Mesh) rejoin() {
	m.mu.Lock()
	links := make(map[string]runtime.Link, len(m.links))
	for b, l := range m.links {
		links[b] = l
	}
	m.mu.Unlock()
	for _, l := range links {
		if r, ok := l.(interface{ Rejoin() }); ok {
			r.Rejoin()
		}
	}
}

// Hosts lists the live hosts of an app ("" for all), sorted by boot.
func (m *Mesh) Hosts(app string) []runtime.HostInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hs []runtime.HostInfo
	for _, h := range m.hosts {
		if app == "" || h.App == app {
			hs = append(hs, h)
		}
	}
	sort.Slice(hs, func(i, j int) bool { return hs[i].Boot < hs[j].Boot })
	return hs
}

// HostOf is the host info of a live boot.
func (m *Mesh) HostOf(boot string) (runtime.HostInfo, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.hosts[boot]
	return h, ok
}

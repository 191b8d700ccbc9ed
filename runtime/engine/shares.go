package engine

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Shares say how the work of a mesh is spread and whether this node's part of
// it is well. The counters are since the start of the process.
type Shares struct {
	Partitions int // of the mesh
	Owned      int // of them, by this node
	Unowned    int // of them, by nobody that this node knows of
	Down       int // owned and not working now: the log cannot be written or read
	StateLost  int // owned, and state is missing that the log no longer holds
	Listed     int // gateways, this one included
	Gateways   int // of them, alive

	Forwarded uint64 // questions passed to the owner of a partition
	Served    uint64 // questions of other gateways answered here
	// Partitions taken from nobody, or from a gateway that was gone; given to
	// this node by their owner; and given away by it.
	TakenOver, HandedOver, Given uint64
	TakeSeconds                  float64 // spent on taking partitions

	UnknownAppends uint64  // tries of which the outcome was unknown at first
	AppendWaits    float64 // s, the oldest append that has no answer yet
	// ReachesBack is since when the logs of all owned partitions hold everything,
	// in seconds; 0 when nothing is owned, or a log does not say.
	ReachesBack float64
	StoreLag    uint64 // records that the store is behind the log, of the worst partition
	StoreWaits  int    // changes that are not in the store yet
}

// A tally counts what has no place in a partition.
type tally struct {
	forwarded, served, unknown   atomic.Uint64
	takenOver, handedOver, given atomic.Uint64
	hostsLost, hostsEnded, torn  atomic.Uint64
	termsLost                    atomic.Uint64
	eventsLost                   atomic.Uint64
	takeNanos                    atomic.Int64
}

func (t *tally) taken(step runtime.OwnershipStep, took time.Duration) {
	if step == runtime.OwnershipAsk {
		t.handedOver.Add(1)
	} else {
		t.takenOver.Add(1)
	}
	t.takeNanos.Add(int64(took))
}

// begin starts to count a term: reading the log is not doing.
func (s *partStats) begin(read runtime.Counts) {
	s.past = s.totals()
	s.read, s.counts = read, read
}

// totals are what this node has done for the partition.
func (s *partStats) totals() runtime.Counts {
	c, r, t := s.counts, s.read, s.past
	t.Accepted += c.Accepted - r.Accepted
	t.Completed += c.Completed - r.Completed
	t.Retried += c.Retried - r.Retried
	t.RemindersFired += c.RemindersFired - r.RemindersFired
	t.EventsDelivered += c.EventsDelivered - r.EventsDelivered
	t.DeadLetters += c.DeadLetters - r.DeadLetters
	return t
}

// mine tells whether this node owns the partition, as far as it knows.
func (m *Mesh) mine(p *partition) bool {
	return m.cfg.Shared == nil || m.dir.of(p.n).node == m.cfg.Node
}

func (m *Mesh) shares() Shares {
	s := Shares{
		Partitions: len(m.parts), Listed: 1, Gateways: 1,
		Forwarded: m.tally.forwarded.Load(), Served: m.tally.served.Load(), UnknownAppends: m.tally.unknown.Load(),
		TakenOver: m.tally.takenOver.Load(), HandedOver: m.tally.handedOver.Load(), Given: m.tally.given.Load(),
		TakeSeconds: time.Duration(m.tally.takeNanos.Load()).Seconds(),
	}
	if m.owned != nil {
		live, _ := m.owned.live()
		m.owned.mu.Lock()
		s.Listed = len(m.owned.members)
		m.owned.mu.Unlock()
		s.Gateways = len(live)
	}
	now := time.Now().UnixMilli()
	for _, p := range m.parts {
		stands := p.stands.Load() != nil
		if stands {
			s.Down++ // also when it is left to others
		}
		if !m.mine(p) {
			if m.dir.of(p.n).node == "" {
				s.Unowned++
			}
			continue
		}
		s.Owned++
		if p.down.Load() != nil && !stands {
			s.Down++
		}
		a := p.applier.Load()
		if a.missing() != nil {
			s.StateLost++
		}
		lag, waits := a.behind()
		s.StoreLag, s.StoreWaits = max(s.StoreLag, lag), s.StoreWaits+waits
		if since := p.appending.Load(); since != 0 {
			s.AppendWaits = max(s.AppendWaits, float64(now-since)/1000)
		}
		if back := float64(now-p.oldest.Load()) / 1000; p.oldest.Load() == 0 {
			s.ReachesBack = -1
		} else if s.Owned == 1 || back < s.ReachesBack {
			s.ReachesBack = back
		}
	}
	s.ReachesBack = max(s.ReachesBack, 0)
	return s
}

// behind is how far the store is behind the log: records, and changes.
func (a *applier) behind() (records uint64, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.changes) > 0 || a.busy || a.unread > 0 {
		records = a.upTo - min(a.upTo, a.applied)
	}
	return records, len(a.changes)
}

// A GatewayInfo is one gateway of the mesh as this node sees it.
type GatewayInfo struct {
	Node       string `json:"node"`
	Address    string `json:"address,omitempty"`
	Version    string `json:"version,omitempty"`
	This       bool   `json:"this,omitempty"`
	Alive      bool   `json:"alive"`
	Leaving    bool   `json:"leaving,omitempty"`
	Partitions int    `json:"partitions"` // that it owns
}

// Members lists the mesh's gateways, in the order of their names.
func (m *Mesh) Members() []GatewayInfo {
	if m.owned == nil {
		return []GatewayInfo{{Node: m.cfg.Node, This: true, Alive: true, Partitions: len(m.parts)}}
	}
	live, _ := m.owned.live()
	m.owned.mu.Lock()
	members := m.owned.knownLocked()
	m.owned.mu.Unlock()
	list := []GatewayInfo{}
	for i := range members {
		x := &members[i]
		list = append(list, GatewayInfo{
			Node: x.Node, Address: x.Address, Version: x.Version, This: x.Node == m.cfg.Node, Leaving: x.Leaving,
			Alive: contains(live, x.Node), Partitions: len(m.dir.ofNode(x.Node)),
		})
	}
	slices.SortFunc(list, func(a, b GatewayInfo) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return list
}

package engine

import (
	"context"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// An ownerLoop decides, again and again, which partitions this node should
// take: it follows the list of members, takes what nobody owns, and asks the
// owners of what it should have. It is needed for progress, not for safety.
type ownerLoop struct {
	m    *Mesh
	wake chan struct{}

	mu      sync.Mutex
	members []runtime.Member // as last listed, this node included
	listed  time.Time        // when
	up      map[string]bool  // streams that stand
	dead    map[string]bool  // processes that are certainly gone
	told    map[string]bool  // nodes that have said what they own
	busy    map[uint16]bool  // partitions that are being taken
	leaving bool

	slots chan struct{} // bounds how many partitions are taken at a time
	tasks sync.WaitGroup
}

// takeAtOnce bounds the partitions that are read and claimed side by side.
const takeAtOnce = 8

func newOwnerLoop(m *Mesh) *ownerLoop {
	return &ownerLoop{
		m: m, wake: make(chan struct{}, 1), up: map[string]bool{}, dead: map[string]bool{}, told: map[string]bool{},
		busy: map[uint16]bool{}, slots: make(chan struct{}, takeAtOnce),
	}
}

func (o *ownerLoop) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *ownerLoop) run(ctx context.Context) {
	every := o.m.cfg.Shared.Lease / 4
	tick := time.NewTicker(every)
	defer tick.Stop()
	lists := make(chan struct{}, 1) // one question to the store at a time
	for {
		select {
		case lists <- struct{}{}:
			o.tasks.Go(func() { defer func() { <-lists }(); o.list(ctx) })
		default:
		}
		o.decide(ctx)
		select {
		case <-ctx.Done():
			o.tasks.Wait()
			return
		case <-tick.C:
		case <-o.wake:
			o.decide(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(every / 50): // news come in bunches
			}
		}
	}
}

// list renews this node's entry and reads the others'.
func (o *ownerLoop) list(ctx context.Context) {
	m, s := o.m, o.m.cfg.Shared
	o.mu.Lock()
	leaving := o.leaving
	o.mu.Unlock()
	me := runtime.Member{Node: m.cfg.Node, Address: s.Address, Version: s.Version, Level: runtime.Level, Leaving: leaving, Owns: m.dir.ofNode(m.cfg.Node)}
	ask, cancel := context.WithTimeout(ctx, s.Lease)
	defer cancel()
	members, err := s.Members.Announce(ask, me, s.Lease)
	if err != nil {
		if ctx.Err() == nil {
			m.cfg.Logger.Warn("the list of gateways cannot be read", "error", err)
		}
		o.mu.Lock()
		if o.members == nil && time.Since(m.start) > s.Lease {
			o.members = []runtime.Member{me} // the store was never there: go on with who calls
		}
		o.mu.Unlock()
		return
	}
	o.mu.Lock()
	o.members, o.listed = members, time.Now()
	for node := range o.dead {
		if !contains(members, node) && len(m.dir.ofNode(node)) == 0 {
			delete(o.dead, node)
		}
	}
	o.mu.Unlock()
	m.peers.Connect(members)
	for _, x := range members {
		if x.Node == m.cfg.Node {
			continue
		}
		for _, e := range x.Owns {
			m.learn(x.Node, []runtime.PartitionEpoch{e})
		}
		o.mu.Lock()
		o.told[x.Node] = true
		o.mu.Unlock()
	}
	o.nudge()
}

func contains(members []runtime.Member, node string) bool {
	for i := range members {
		if members[i].Node == node {
			return true
		}
	}
	return false
}

// live are the members that are alive: listed with a valid lease, or answering
// here, and not certainly gone.
func (o *ownerLoop) live() (live []runtime.Member, complete bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.liveLocked()
}

func (o *ownerLoop) liveLocked() (live []runtime.Member, complete bool) {
	fresh := time.Since(o.listed) < o.m.cfg.Shared.Lease
	complete = true
	for _, x := range o.members {
		me := x.Node == o.m.cfg.Node
		if me {
			x.Leaving = o.leaving
		}
		if !me && (o.dead[x.Node] || !fresh && !o.up[x.Node]) {
			continue
		}
		live = append(live, x)
		complete = complete && (me || o.told[x.Node])
	}
	return live, complete
}

// decide begins what the rule says about each partition.
func (o *ownerLoop) decide(ctx context.Context) {
	live, complete := o.live()
	if len(live) == 0 {
		return
	}
	for n, own := range o.m.dir.all() {
		p := uint16(n)
		v := runtime.OwnershipView{Partition: p, Me: o.m.cfg.Node, Live: live, Owner: own.node, Complete: complete}
		step := runtime.NextOwnershipStep(&v)
		if step == runtime.OwnershipKeep {
			continue
		}
		o.mu.Lock()
		busy := o.busy[p] || o.leaving
		if !busy {
			o.busy[p] = true
		}
		dead := o.dead[own.node]
		o.mu.Unlock()
		if busy {
			continue
		}
		o.tasks.Go(func() {
			defer func() {
				o.mu.Lock()
				delete(o.busy, p)
				o.mu.Unlock()
			}()
			select {
			case o.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-o.slots }()
			if err := o.take(ctx, p, own, step == runtime.OwnershipAsk, dead); err != nil && ctx.Err() == nil {
				o.m.cfg.Logger.Info("a partition was not taken", "partition", p, "error", err)
				pauseFor(ctx, o.m.cfg.Shared.Lease/8)
			}
		})
	}
}

// take reads the log of a partition, has its owner hand it over when there is a
// living one, and claims it.
func (o *ownerLoop) take(ctx context.Context, n uint16, own ownership, ask, dead bool) error {
	p, began := o.m.part(n), time.Now()
	t, err := p.read(ctx)
	if err != nil {
		return err
	}
	// Only who is certain that nobody answers for the last owner may answer at once.
	certain := dead || t.core.Epoch() == 0
	if ask {
		if _, err := o.m.peers.Ask(ctx, own.node, &Op{Partition: n, Epoch: own.epoch, HandOver: &HandOverOp{}}); err != nil {
			return err
		}
		certain = true
	}
	if err := t.claim(ctx); err != nil {
		return err
	}
	if !certain {
		pauseFor(ctx, o.m.afterClaim())
	}
	var begun error
	if !p.order(ctx, func(ctx context.Context) { begun = p.begin(ctx, t, began) }) {
		return ctx.Err()
	}
	if begun == nil {
		o.m.cfg.Logger.Debug("partition taken", "partition", n, "epoch", t.core.Epoch(), "in", time.Since(began).Round(time.Millisecond))
	}
	return begun
}

// handOver gives a partition to the node that asks for it.
func (o *ownerLoop) handOver(n uint16, to string, reply func(*Result)) {
	live, _ := o.live()
	if !runtime.MayHandOver(n, to, live) {
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "partition %d is not given to that gateway: it is not the one that should have it", n)})
		return
	}
	p := o.m.part(n)
	o.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), o.m.cfg.Shared.Lease)
		defer cancel()
		if !p.order(ctx, func(context.Context) { p.end(); o.m.gone(p) }) {
			reply(&Result{Err: runtime.Errorf(runtime.CodeAskAgain, "partition %d is busy", n)})
			return
		}
		reply(&Result{})
	})
}

// Leave gives everything away, for a gateway that stops while others live. It
// returns when nothing is left here, nobody else is there, or ctx ends.
func (m *Mesh) Leave(ctx context.Context) {
	if m.owned == nil {
		return
	}
	o := m.owned
	o.mu.Lock()
	o.leaving = true
	o.mu.Unlock()
	m.tellOwns()
	o.nudge()
	for {
		live, _ := o.live()
		if len(m.dir.ofNode(m.cfg.Node)) == 0 || len(live) < 2 || !pauseFor(ctx, 5*time.Millisecond) {
			break
		}
	}
	gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Shared.Lease/2)
	defer cancel()
	if err := m.cfg.Shared.Members.Leave(gone, m.cfg.Node); err != nil {
		m.cfg.Logger.Warn("this gateway could not be taken off the list", "error", err)
	}
}

// Settled waits until every partition has an owner that this node knows.
func (m *Mesh) Settled(ctx context.Context) error {
	for p := range m.parts {
		for {
			own := m.dir.of(uint16(p))
			if own.node != "" || m.cfg.Shared == nil {
				break
			}
			if m.dir.wait(ctx, uint16(p), own); ctx.Err() != nil {
				return runtime.Errorf(runtime.CodeUnavailable, "partition %d has no owner yet", p)
			}
		}
	}
	return nil
}

// owns makes known that this node owns p from now on.
func (m *Mesh) owns(p *partition) {
	if m.cfg.Shared == nil {
		m.askJoins(nil, []runtime.PartitionEpoch{{Partition: p.n, Epoch: p.epoch.Load()}})
		return
	}
	m.learn(m.cfg.Node, []runtime.PartitionEpoch{{Partition: p.n, Epoch: p.epoch.Load()}})
	m.tellOwns()
}

// gone makes known that this node owns p no longer.
func (m *Mesh) gone(p *partition) {
	if m.cfg.Shared == nil {
		return
	}
	m.dir.gone(p.n, m.cfg.Node)
	m.tellOwns()
	m.owned.nudge()
}

// tellOwns tells all peers what this node owns.
func (m *Mesh) tellOwns() {
	m.tellAll(m.ownsNote())
}

func (m *Mesh) ownsNote() *Note {
	m.owned.mu.Lock()
	leaving := m.owned.leaving
	m.owned.mu.Unlock()
	return &Note{Owns: &OwnsNote{Partitions: m.dir.ofNode(m.cfg.Node), Leaving: leaving}}
}

// tellAll tells a note to every peer whose stream stands.
func (m *Mesh) tellAll(n *Note) {
	if m.peers == nil {
		return
	}
	for _, node := range m.owned.streams() {
		m.peers.Tell(node, n)
	}
}

func (o *ownerLoop) streams() (nodes []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for node, up := range o.up {
		if up {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// learn takes the news of who owns what; hosts attached here are asked to join
// the new owners.
func (m *Mesh) learn(node string, owns []runtime.PartitionEpoch) {
	var news []runtime.PartitionEpoch
	for _, e := range owns {
		if m.dir.learn(e.Partition, node, e.Epoch) {
			news = append(news, e)
		}
	}
	if len(news) > 0 {
		m.askJoins(nil, news)
		m.resendDowns(news)
	}
}

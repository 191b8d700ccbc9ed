package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// An ownerLoop decides, again and again, which partitions this node should
// take: it follows the list of members, takes what nobody owns, and asks the
// owners of what it should have. It is needed for progress, not for safety.
type ownerLoop struct {
	m    *Mesh
	wake chan struct{}
	// relist asks for the list before its time.
	relist chan struct{}

	mu          sync.Mutex
	members     []runtime.Member     // as last listed, this node included
	failing     time.Time            // since when the list cannot be read, zero while it can
	listed      bool                 // the list was read at some time
	paused      bool                 // this process stood still: what it knows may be old
	taken, lost int                  // partitions since the last line in the log about them
	up          map[string]bool      // streams that stand
	dead        map[string]time.Time // when a process was first found to be gone
	told        map[string]bool      // nodes that have said what they own
	busy        map[uint16]bool      // partitions that are being taken here, true without asking an owner
	taking      map[uint16]string    // partitions that others are about to own
	since       map[string]time.Time // when a member was first listed
	leaving     bool
	unfit       error // why this gateway should own nothing now, nil when it may

	settled atomic.Bool
	doubts  map[uint16]doubt

	telling sync.Mutex // orders the notes about what is owned

	slots chan struct{} // bounds how many partitions are taken at a time
	tasks sync.WaitGroup
}

// takeAtOnce bounds the partitions that are read and claimed side by side.
const takeAtOnce = 8

func newOwnerLoop(m *Mesh) *ownerLoop {
	return &ownerLoop{
		m: m, wake: make(chan struct{}, 1), relist: make(chan struct{}, 1), up: map[string]bool{}, dead: map[string]time.Time{}, told: map[string]bool{},
		taking: map[uint16]string{}, since: map[string]time.Time{}, busy: map[uint16]bool{}, doubts: map[uint16]doubt{}, slots: make(chan struct{}, takeAtOnce),
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
	list := func() {
		select {
		case lists <- struct{}{}:
			o.tasks.Go(func() { defer func() { <-lists }(); o.list(ctx) })
		default: // one is under way
		}
	}
	list()
	for last := time.Now(); ; last = time.Now() {
		o.decide(ctx)
		ticked := false
		select {
		case <-ctx.Done():
			o.tasks.Wait()
			return
		case <-tick.C:
			ticked = true
		case <-o.relist:
			pauseFor(ctx, every/50)
			list()
		case <-o.wake:
		}
		if time.Since(last) > o.m.cfg.Shared.Lease/2+every {
			o.mu.Lock()
			o.paused = true
			o.mu.Unlock()
			list()
		}
		if ticked {
			list()
			o.m.tellOwns() // again: what somebody has doubted meanwhile
			o.probe(ctx)
			o.raise()
			o.report()
		} else {
			o.decide(ctx)
			pauseFor(ctx, every/50) // news come in bunches
		}
	}
}

// list renews this node's entry and reads the others'.
func (o *ownerLoop) list(ctx context.Context) {
	m, s := o.m, o.m.cfg.Shared
	o.mu.Lock()
	leaving := o.leaving || o.unfit != nil
	o.mu.Unlock()
	me := runtime.Member{Node: m.cfg.Node, Address: s.Address, Version: s.Version, Level: m.cfg.Level, Leaving: leaving, Owns: m.dir.ofNode(m.cfg.Node)}
	ask, cancel := context.WithTimeout(ctx, s.Lease)
	defer cancel()
	members, err := s.Members.Announce(ask, me, s.Lease)
	if err != nil {
		if ctx.Err() == nil {
			m.cfg.Logger.Warn("the list of gateways cannot be read", "error", err)
		}
		o.mu.Lock()
		if o.failing.IsZero() || o.paused {
			o.failing = time.Now()
		}
		o.paused = false
		if o.members == nil && time.Since(m.start) > s.Lease {
			o.members = []runtime.Member{me} // the store was never there: go on with who calls
		}
		o.mu.Unlock()
		return
	}
	o.mu.Lock()
	for _, x := range o.members { // whoever answers is alive, whatever the list says
		if o.up[x.Node] && !x.Leaving && !contains(members, x.Node) {
			members = append(members, x)
		}
	}
	now := time.Now()
	o.members, o.failing, o.paused, o.listed = slices.Clone(members), time.Time{}, false, true
	if errors.Is(o.unfit, errUnlisted) {
		o.unfit = nil
	}
	for node := range o.since {
		if !contains(members, node) {
			delete(o.since, node)
		}
	}
	for i := range members {
		if _, known := o.since[members[i].Node]; !known {
			o.since[members[i].Node] = now
		}
	}
	for node := range o.dead {
		if !contains(members, node) && len(m.dir.ofNode(node)) == 0 {
			delete(o.dead, node)
		}
	}
	o.mu.Unlock()
	m.peers.Connect(members)
	for _, x := range members {
		o.mu.Lock()
		up := o.up[x.Node]
		o.mu.Unlock()
		if x.Node != m.cfg.Node && !up { // who has a stream says it there, and later
			m.learn(x.Node, x.Owns)
		}
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
	// While the list cannot be read, whoever answers is alive.
	fresh := o.failing.IsZero() || time.Since(o.failing) < o.m.cfg.Shared.Lease
	complete = true
	for _, x := range o.members {
		me := x.Node == o.m.cfg.Node
		if me {
			x.Leaving = o.leaving || o.unfit != nil
		}
		if !me && (o.isDead(x.Node) || !fresh && !o.up[x.Node]) {
			continue
		}
		live = append(live, x)
		// One that cannot be reached for long has only the list to say what it owns.
		complete = complete && (me || o.told[x.Node] || time.Since(o.since[x.Node]) > o.m.cfg.Shared.Lease)
	}
	return live, complete
}

// A plan is what is to be done about a partition now.
type plan struct {
	step runtime.OwnershipStep
	own  ownership // of whom it is to be taken
	dead bool      // that owner is certainly gone
}

// plan asks the rule.
func (o *ownerLoop) plan(p uint16) plan {
	own := o.m.dir.of(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	live, complete := o.liveLocked()
	if by := o.taking[p]; own.node != o.m.cfg.Node && by != "" && contains(live, by) {
		own.node = by
	}
	v := runtime.OwnershipView{Partition: p, Me: o.m.cfg.Node, Live: live, Owner: own.node, Complete: complete}
	x := plan{own: own, dead: o.isDead(own.node)}
	if len(live) > 0 && !o.paused && !o.leaving && o.unfit == nil {
		x.step = runtime.NextOwnershipStep(&v)
	}
	return x
}

// isDead tells that a process is certainly gone. One that is still listed when
// its lease must have run out is not: its address leads somewhere else.
func (o *ownerLoop) isDead(node string) bool {
	at, found := o.dead[node]
	if found && contains(o.members, node) && time.Since(at) > o.m.cfg.Shared.Lease+o.m.cfg.Shared.Lease/2 {
		return false
	}
	return found
}

// decide begins what the rule says about each partition.
func (o *ownerLoop) decide(ctx context.Context) {
	for n := range o.m.parts {
		p := uint16(n)
		if o.plan(p).step == runtime.OwnershipKeep {
			continue
		}
		o.mu.Lock()
		_, busy := o.busy[p]
		if !busy {
			o.busy[p] = false
		}
		o.mu.Unlock()
		if !busy {
			o.tasks.Go(func() { o.try(ctx, p) })
		}
	}
}

// try takes a partition, if that is still wanted when its turn has come.
func (o *ownerLoop) try(ctx context.Context, p uint16) {
	claimed := false
	defer func() {
		o.mu.Lock()
		delete(o.busy, p)
		o.mu.Unlock()
		if claimed {
			o.m.tellOwns()
		}
	}()
	select {
	case o.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	free := sync.OnceFunc(func() { <-o.slots })
	defer free()
	x := o.plan(p)
	if x.step == runtime.OwnershipKeep {
		return
	}
	if x.step == runtime.OwnershipClaim {
		claimed = true
		o.mu.Lock()
		o.busy[p] = true
		o.mu.Unlock()
		o.m.tellOwns()
	}
	if err := o.take(ctx, p, x, free); err != nil && ctx.Err() == nil {
		o.m.cfg.Logger.Debug("a partition was not taken", "partition", p, "error", err)
		if is(err, runtime.CodeNewerFormat) {
			o.setUnfit(err)
		}
		free()
		pauseFor(ctx, o.m.cfg.Shared.Lease/16)
	}
}

// take reads the log of a partition, has its owner hand it over when there is a
// living one, and claims it.
func (o *ownerLoop) take(ctx context.Context, n uint16, x plan, free func()) error {
	p, began := o.m.part(n), time.Now()
	t, err := p.read(ctx)
	if err != nil {
		return err
	}
	o.mu.Lock()
	listed := o.listed
	o.mu.Unlock()
	if !listed {
		free()
		if err := t.quiet(ctx, 2*o.m.cfg.Shared.Lease); err != nil {
			return err
		}
	}
	if x.step == runtime.OwnershipClaim && o.doubt(n, x.own.epoch, t.core.Epoch()) {
		return errDeposed
	}
	// Only who is certain that nobody answers for the last owner may answer at once.
	certain := x.dead
	if x.step == runtime.OwnershipAsk {
		ask := &Op{Partition: n, Epoch: x.own.epoch, HandOver: &HandOverOp{}}
		if res, err := o.m.peers.Ask(ctx, x.own.node, ask); err != nil {
			return err
		} else if res.Err != nil {
			return res.Err
		}
		certain = true
	}
	if err := t.claim(ctx); err != nil {
		return err
	}
	if t.core.Epoch() > x.own.epoch+1 { // another has owned it since, who may live
		certain = false
	}
	free()
	if !certain && t.core.Epoch() > 1 {
		pauseFor(ctx, o.m.afterClaim())
	}
	var begun error
	if !p.order(ctx, func(ctx context.Context) { begun = p.begin(ctx, t, began) }) {
		return ctx.Err()
	}
	if begun == nil {
		o.m.tally.taken(x.step, time.Since(began))
		o.m.cfg.Logger.Debug("partition taken", "partition", n, "epoch", t.core.Epoch(), "in", time.Since(began).Round(time.Millisecond))
	}
	return begun
}

// surrenderAfter is how long an owner that cannot write to its log holds on to
// its partitions while others could have them, in gateway leases.
const surrenderAfter = 5

// mayHold tells whether an owner that has not been able to write since then goes
// on trying: when nobody else is better off, or it has not been long.
func (m *Mesh) mayHold(since time.Time) bool {
	return m.owned == nil || time.Since(since) < surrenderAfter*m.cfg.Shared.Lease || !m.owned.heirs()
}

// setUnfit has this gateway own nothing until it is fit again.
func (o *ownerLoop) setUnfit(why error) {
	o.mu.Lock()
	news := o.unfit == nil
	if news {
		o.unfit = why
	}
	o.mu.Unlock()
	if news {
		o.m.cfg.Logger.Error("this gateway cannot own partitions now, others take over; it still passes requests on", "error", why)
		o.m.tellOwns()
		o.nudge()
	}
}

// probe lets an unfit gateway come back once its log answers. One that is too
// old for the records in it stays away.
func (o *ownerLoop) probe(ctx context.Context) {
	o.mu.Lock()
	why := o.unfit
	o.mu.Unlock()
	if why == nil || is(why, runtime.CodeNewerFormat) || errors.Is(why, errUnlisted) {
		return
	}
	ask, cancel := context.WithTimeout(ctx, o.m.cfg.Shared.Lease/4)
	defer cancel()
	if _, _, err := o.m.parts[0].log.Bounds(ask); err != nil {
		return
	}
	o.mu.Lock()
	o.unfit = nil
	o.mu.Unlock()
	o.m.cfg.Logger.Info("this gateway can own partitions again")
	o.m.tellOwns()
	o.nudge()
}

// raise lets the logs of this node's partitions go to the level that all living
// gateways read, one that leaves or owns nothing included: it may come back.
func (o *ownerLoop) raise() {
	live, complete := o.live()
	level := runtime.MeshLevel(live)
	if !complete || level < 2 {
		return
	}
	for _, e := range o.m.dir.ofNode(o.m.cfg.Node) {
		if p := o.m.part(e.Partition); p.level.Load() < int64(level) {
			p.push(&runtime.RaiseLevel{Level: level})
		}
	}
}

// report says in the log what has moved.
func (o *ownerLoop) report() {
	o.mu.Lock()
	taken, lost := o.taken, o.lost
	o.taken, o.lost = 0, 0
	o.mu.Unlock()
	if taken > 0 {
		o.m.cfg.Logger.Info("partitions taken", "partitions", taken, "owned", len(o.m.dir.ofNode(o.m.cfg.Node)))
	}
	if lost > 0 {
		o.m.cfg.Logger.Warn("other gateways have claimed partitions of this one", "partitions", lost)
	}
}

// doubt tells that somebody has claimed a partition since the owner that this
// node knows of, who may live: it is left alone until the list and the notes
// have had time to say who that is.
func (o *ownerLoop) doubt(p uint16, known, found uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known == 0 || found <= known {
		delete(o.doubts, p)
		return false
	}
	d, again := o.doubts[p]
	if !again || d.epoch != found {
		o.doubts[p] = doubt{found, time.Now()}
		return true
	}
	return time.Since(d.since) < o.m.cfg.Shared.Lease
}

type doubt struct {
	epoch uint64
	since time.Time
}

// errUnlisted keeps a gateway that has never read the list of gateways, because
// the store is away since before it began, from a war with owners that it
// cannot know.
var errUnlisted = errors.New("the list of gateways was never read, and another gateway owns what this one claimed")

// quiet tells whether nobody writes to the log: an owner with hosts or requests
// does at least once in a proofAge.
func (t *term) quiet(ctx context.Context, wait time.Duration) error {
	end := t.next
	if !pauseFor(ctx, wait) {
		return ctx.Err()
	}
	if err := t.to(ctx, t.next); err != nil {
		return err
	}
	if t.next != end {
		return errDeposed
	}
	return nil
}

// handOver gives a partition to the node that asks for it.
func (o *ownerLoop) handOver(n uint16, to string, reply func(*Result)) {
	live, _ := o.live()
	if !runtime.MayHandOver(n, to, live) {
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "partition %d is not given to that gateway: it is not the one that should have it", n)})
		return
	}
	p := o.m.part(n)
	if o.m.dir.of(n).node != o.m.cfg.Node {
		reply(&Result{Err: runtime.Errorf(runtime.CodeNotOwner, "this gateway does not own partition %d", n)})
		return
	}
	if o.m.life.Err() != nil {
		reply(&Result{Err: runtime.Errorf(runtime.CodeAskAgain, "this gateway stops")})
		return
	}
	o.m.watches.Go(func() {
		ctx, cancel := context.WithTimeout(o.m.life, o.m.cfg.Shared.Lease)
		defer cancel()
		given := false
		done := p.order(ctx, func(context.Context) {
			if given = ctx.Err() == nil; given { // else the asker was told no
				p.end()
				o.m.gone(p)
			}
		})
		if !done || !given {
			reply(&Result{Err: runtime.Errorf(runtime.CodeAskAgain, "partition %d is busy", n)})
			return
		}
		o.m.tally.given.Add(1)
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
		if len(m.dir.ofNode(m.cfg.Node)) == 0 || !o.heirs() || !pauseFor(ctx, 5*time.Millisecond) {
			break
		}
	}
	gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Shared.Lease/2)
	defer cancel()
	if err := m.cfg.Shared.Members.Leave(gone, m.cfg.Node); err != nil {
		m.cfg.Logger.Warn("this gateway could not be taken off the list", "error", err)
	}
}

// heirs tells whether another gateway could take over.
func (o *ownerLoop) heirs() bool {
	live, _ := o.live()
	for i := range live {
		if live[i].Node != o.m.cfg.Node && !live[i].Leaving {
			return true
		}
	}
	return false
}

// complete tells whether all partitions had owners at some time: only a gateway
// that begins is not ready for lack of them, or a take-over would make all
// gateways unready at once.
func (o *ownerLoop) complete() bool {
	if o.settled.Load() {
		return true
	}
	for _, own := range o.m.dir.all() {
		if own.node == "" {
			return false
		}
	}
	o.settled.Store(true)
	return true
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
	mine := []runtime.PartitionEpoch{{Partition: p.n, Epoch: p.epoch.Load()}}
	if m.cfg.Shared == nil {
		m.askJoins(nil, mine)
		return
	}
	m.learn(m.cfg.Node, mine)
	m.tellOwns()
	m.groups.fire() // now they are listed as this node's
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

// tellOwns tells what this node owns: all peers, or the given one. What is told
// last is the truth.
func (m *Mesh) tellOwns(nodes ...string) {
	m.owned.telling.Lock()
	defer m.owned.telling.Unlock()
	if nodes == nil {
		nodes = m.owned.streams()
	}
	n := m.ownsNote()
	for _, node := range nodes {
		m.peers.Tell(node, n)
	}
}

func (m *Mesh) ownsNote() *Note {
	o := m.owned
	o.mu.Lock()
	n := &OwnsNote{Leaving: o.leaving || o.unfit != nil}
	for p, claiming := range o.busy {
		if claiming {
			n.Claiming = append(n.Claiming, p)
		}
	}
	o.mu.Unlock()
	n.Partitions = m.dir.ofNode(m.cfg.Node)
	return &Note{Owns: n}
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
			if p := m.part(e.Partition); node != m.cfg.Node && p.owning.Load() && e.Epoch > p.epoch.Load() {
				p.push(&runtime.Prove{}) // finds out that the term is over
			}
		}
	}
	if len(news) > 0 {
		m.askJoins(nil, news)
		m.resendDowns(news)
	}
}

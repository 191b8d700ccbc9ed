package engine_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A simNet is the streams between the gateways of a world. As in gateway/peer, a stream
// of two gateways stands for both or for neither, each hears of its begin first and of
// its end last, and what one says of one app is in order, and so is what goes first;
// between the two there is none.
type simNet struct {
	w       *world
	mu      sync.Mutex
	peers   map[string]*simPeers
	streams map[[2]string]*simStream
	cut     map[[2]string]time.Time // until when
}

func newSimNet(w *world) *simNet {
	return &simNet{w: w, peers: map[string]*simPeers{}, streams: map[[2]string]*simStream{}, cut: map[[2]string]time.Time{}}
}

func pairOf(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

type simPeers struct {
	net  *simNet
	n    *simNode
	h    engine.PeerHandler
	over context.Context
	stop context.CancelFunc
	wait sync.WaitGroup

	mu   sync.Mutex
	want []string
	seen map[string]bool // whose end was told
}

func (x *simNet) connect(n *simNode, h engine.PeerHandler) *simPeers {
	p := &simPeers{net: x, n: n, h: h, seen: map[string]bool{}}
	p.over, p.stop = context.WithCancel(context.Background())
	x.mu.Lock()
	x.peers[n.name] = p
	x.mu.Unlock()
	p.wait.Go(p.dial)
	return p
}

func (x *simNet) get(name string) *simPeers {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.peers[name]
}

// sever cuts what is between two gateways for a while.
func (x *simNet) sever(a, b *simNode, d time.Duration) {
	if b == nil || a.name == b.name {
		return
	}
	if d > 30*time.Millisecond {
		x.w.trace.say("%s and %s are apart for %s", a.name, b.name, d)
	}
	x.mu.Lock()
	x.cut[pairOf(a.name, b.name)] = time.Now().Add(d)
	s := x.streams[pairOf(a.name, b.name)]
	x.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

func (x *simNet) heal() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cut = map[[2]string]time.Time{}
}

// dead ends all streams of a gateway whose process has ended.
func (x *simNet) dead(n *simNode) {
	x.mu.Lock()
	p := x.peers[n.name]
	delete(x.peers, n.name)
	var its []*simStream
	for pair, s := range x.streams {
		if pair[0] == n.name || pair[1] == n.name {
			its = append(its, s)
		}
	}
	x.mu.Unlock()
	for _, s := range its {
		s.stop()
	}
	if p != nil {
		p.stop()
	}
}

// dial keeps the streams that are wanted.
func (p *simPeers) dial() {
	for sleepFor(p.over, p.net.w.dice.between(5*time.Millisecond, 100*time.Millisecond)) {
		if p.n.pass() != nil {
			return
		}
		p.mu.Lock()
		want := slices.Clone(p.want)
		p.mu.Unlock()
		for _, name := range want {
			p.reach(name)
		}
	}
}

// reach makes a stream to another gateway if both want one.
func (p *simPeers) reach(name string) {
	x, me := p.net, p.n.name
	x.mu.Lock()
	other, s, cut := x.peers[name], x.streams[pairOf(me, name)], time.Now().Before(x.cut[pairOf(me, name)])
	x.mu.Unlock()
	switch {
	case s != nil || cut:
		return
	case other == nil:
		p.mu.Lock()
		told := p.seen[name]
		p.seen[name] = true
		p.mu.Unlock()
		if !told {
			p.h.PeerDown(name, true)
		}
		return
	}
	other.n.mu.Lock()
	still := time.Now().Before(other.n.stands)
	other.n.mu.Unlock()
	if still {
		return
	}
	other.mu.Lock()
	wanted := slices.Contains(other.want, me)
	other.mu.Unlock()
	if !wanted {
		other.h.PeerKnocked(me, "http://"+me)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.streams[pairOf(me, name)] != nil || p.over.Err() != nil || other.over.Err() != nil || x.peers[name] != other || x.peers[me] != p {
		return
	}
	n := &simStream{net: x}
	n.over, n.stop = context.WithCancel(context.Background())
	n.ends = [2]*simEnd{newSimEnd(n, p, name), newSimEnd(n, other, me)}
	x.streams[pairOf(me, name)] = n
	x.w.spawn(n.stand)
}

// A simStream is one stream from its begin to its end.
type simStream struct {
	net  *simNet
	over context.Context
	stop context.CancelFunc
	ends [2]*simEnd
}

// stand is its life; at the end nothing of it is handed over any more.
func (s *simStream) stand() {
	var both sync.WaitGroup
	for _, e := range s.ends {
		both.Go(e.read)
	}
	<-s.over.Done()
	both.Wait()
	s.net.mu.Lock()
	delete(s.net.streams, pairOf(s.ends[0].p.n.name, s.ends[1].p.n.name))
	s.net.mu.Unlock()
}

// end is where a gateway hears, nil when it has no part in the stream.
func (s *simStream) end(p *simPeers) *simEnd {
	for _, e := range s.ends {
		if e.p == p {
			return e
		}
	}
	return nil
}

func (s *simStream) other(e *simEnd) *simEnd {
	if s.ends[0] == e {
		return s.ends[1]
	}
	return s.ends[0]
}

// A simEnd is where one gateway hears what the other says.
type simEnd struct {
	s     *simStream
	p     *simPeers
	from  string
	up    chan struct{}
	lanes [2]chan simMessage // what goes first, and what is said of apps
}

type simMessage struct {
	due time.Time
	do  func()
}

func newSimEnd(s *simStream, p *simPeers, from string) *simEnd {
	return &simEnd{s: s, p: p, from: from, up: make(chan struct{}), lanes: [2]chan simMessage{make(chan simMessage, 1<<16), make(chan simMessage, 1<<16)}}
}

func (e *simEnd) stands() bool {
	select {
	case <-e.up:
		return e.s.over.Err() == nil
	default:
		return false
	}
}

func (e *simEnd) read() {
	if !sleepFor(e.s.over, e.s.net.w.dice.between(0, 10*time.Millisecond)) {
		return
	}
	close(e.up) // what it tells from now on arrives
	e.p.h.PeerUp(e.from)
	sender := e.s.other(e).p.n // what it says leaves when it does not stand still
	var handing sync.Mutex     // one reader hands over
	var both sync.WaitGroup
	for _, lane := range e.lanes {
		both.Go(func() {
			for {
				select {
				case m := <-lane:
					if !sleepFor(e.s.over, time.Until(m.due)) || sender.pass() != nil || e.p.n.pass() != nil || e.s.over.Err() != nil {
						return
					}
					handing.Lock()
					m.do()
					handing.Unlock()
				case <-e.s.over.Done():
					return
				}
			}
		})
	}
	both.Wait()
	e.p.h.PeerDown(e.from, e.p.net.get(e.from) == nil)
}

// say queues something; what stands in one lane keeps its order.
func (e *simEnd) say(lane int, do func()) {
	d := e.s.net.w.dice.between(0, 6*time.Millisecond)
	if lane == 1 && e.s.net.w.dice.oneIn(10) {
		d = e.s.net.w.dice.between(0, 80*time.Millisecond)
	}
	select {
	case e.lanes[lane] <- simMessage{time.Now().Add(d), do}:
	case <-e.s.over.Done():
	}
}

// find is the stream to a gateway that p may use.
func (p *simPeers) find(node string) *simEnd {
	p.net.mu.Lock()
	s := p.net.streams[pairOf(p.n.name, node)]
	p.net.mu.Unlock()
	if s == nil {
		return nil
	}
	if e := s.end(p); e != nil && e.stands() {
		return s.other(e)
	}
	return nil
}

func (p *simPeers) Connect(members []runtime.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = nil
	for _, m := range members {
		if m.Node != p.n.name {
			p.want = append(p.want, m.Node)
		}
	}
	for name := range p.seen {
		if p.net.get(name) != nil {
			delete(p.seen, name)
		}
	}
}

func (p *simPeers) Ask(ctx context.Context, node string, op *engine.Op) (*engine.Result, error) {
	to := p.find(node)
	if to == nil {
		return nil, runtime.Errorf(runtime.CodeNotOwner, "no stream to %s", node)
	}
	serving, gone := context.WithCancel(to.s.over)
	ch := make(chan *engine.Result, 1)
	to.say(laneOf(op), func() {
		to.p.h.Serve(serving, p.n.name, op, func(r *engine.Result) {
			to.s.other(to).say(laneOf(op), func() { ch <- r; gone() })
		})
	})
	select {
	case r := <-ch:
		return r, nil
	case <-to.s.over.Done():
		gone()
		return nil, runtime.Errorf(runtime.CodeAskAgain, "the stream broke")
	case <-ctx.Done():
		to.say(laneOf(op), gone)
		return nil, ctx.Err()
	}
}

// laneOf tells what goes first from what is said of apps.
func laneOf(op *engine.Op) int {
	if op.HandOver != nil || op.Query != nil && op.Query.App == "" {
		return 0
	}
	return 1
}

func (p *simPeers) Tell(node string, note *engine.Note) {
	to := p.find(node)
	if to == nil || p.n.dead() {
		return
	}
	lane := 0
	if note.Host != nil || note.ToHost != nil {
		lane = 1
	}
	to.say(lane, func() { to.p.h.Heard(p.n.name, note) })
}

func (p *simPeers) Close() error {
	p.stop()
	p.net.mu.Lock()
	var its []*simStream
	for _, s := range p.net.streams {
		if s.end(p) != nil {
			its = append(its, s)
		}
	}
	p.net.mu.Unlock()
	for _, s := range its {
		s.stop()
	}
	p.wait.Wait()
	return nil
}

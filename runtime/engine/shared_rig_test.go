package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// This file is a mesh of several nodes in one process: a log that all of them
// may append to, a store, a list of members and streams between them, in memory
// and with the faults that the tests ask for. The real parts are tested in
// runtime/kafka, runtime/redis, gateway/peer and cli.

type memLog struct {
	mu      sync.Mutex
	records [][]byte
	start   int
	size    int64
	// fault is asked before and after each append of a node.
	fault func(node string, before bool) error
	// limit is the largest record that it takes, 0 for any.
	limit atomic.Int64
	// gone is set while the log is out of reach; asked counts who tries.
	gone  atomic.Bool
	asked atomic.Int64
	// late takes the cuts that are asked for, which then do not land.
	late   func(before uint64)
	bounds atomic.Int64 // questions where it begins
	atOnce atomic.Int64 // appends of a node while another one of it was in flight
	broken atomic.Int64 // appends of something else while the fate of a batch was not known
}

func (l *memLog) reach() error {
	l.asked.Add(1)
	if l.gone.Load() {
		return runtime.Errorf(runtime.CodeKafkaUnreachable, "no broker answers")
	}
	return nil
}

type memHandle struct {
	*memLog
	node string

	say       func(string, ...any) // what is wrong; nil for nobody
	appending sync.Mutex
	doubt     [][]byte    // whose fate is not known
	passed    bool        // something else was sent behind it
	pending   *time.Timer // a batch that lands later
}

// Append watches the law of a log: behind a batch of unknown fate the same comes again
// and nothing else, or a claim, which ends the term that sent it.
func (l *memHandle) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	fault := func(before bool) error {
		if f := l.faults(); f != nil {
			return f(l.node, before)
		}
		return nil
	}
	return l.tried(batch, func() error { return fault(true) }, func() error { return fault(false) }, 0)
}

// tried is an append with what may go wrong before and after it. When that is errLate
// before it, the batch lands after a while, unless the same has come again by then.
func (l *memHandle) tried(batch [][]byte, before, after func() error, late time.Duration) (first, next uint64, err error) {
	if !l.appending.TryLock() {
		l.atOnce.Add(1)
		if l.say != nil {
			l.say("an append of %s begins while another one is in flight:\n%s", l.node, debug.Stack())
		}
		return 0, 0, &runtime.UnknownError{Cause: errors.New("another append is in flight")}
	}
	defer l.appending.Unlock()
	epoch, claim := runtime.ClaimEpoch(batch[0]) // of a void record it is 0
	again := slices.EqualFunc(l.doubt, batch, bytes.Equal)
	void := len(batch) == 1 && bytes.Equal(batch[0], runtime.VoidRecord()) // whose fate nobody asks for
	switch {
	case again && l.passed:
		l.broken.Add(1)
	case epoch > 0:
		l.doubt = nil
	case !again:
		l.passed = true
	}
	if t := l.pending; t != nil && again && !t.Stop() {
		l.pending = nil // it has landed
	}
	first, next, err = l.append(batch, before, after)
	if errors.Is(err, errLate) {
		own := slices.Clone(batch)
		l.pending = time.AfterFunc(late, func() { l.land(own) })
	}
	var unknown *runtime.UnknownError
	switch known := !errors.As(err, &unknown); {
	case known && again:
		l.doubt = nil
	case !known && l.doubt == nil && !claim && !void:
		l.doubt, l.passed = slices.Clone(batch), false
	}
	return first, next, err
}

// doubtful tells whether the fate of a batch is not known.
func (l *memHandle) doubtful() bool {
	if !l.appending.TryLock() {
		return true
	}
	defer l.appending.Unlock()
	return l.doubt != nil
}

func (l *memHandle) append(batch [][]byte, before, after func() error) (first, next uint64, err error) {
	if err := l.reach(); err != nil {
		return 0, 0, &runtime.UnknownError{Cause: err}
	}
	for _, b := range batch {
		if n := l.MaxRecord(); n > 0 && len(b) > n {
			return 0, 0, runtime.Errorf(runtime.CodeTooLarge, "a record of %d bytes", len(b))
		}
	}
	if err := before(); err != nil {
		return 0, 0, err
	}
	first, next = l.land(batch)
	if err := after(); err != nil {
		return 0, 0, err
	}
	return first, next, nil
}

func (l *memLog) land(batch [][]byte) (first, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, next = uint64(len(l.records)), uint64(len(l.records)+len(batch))
	for _, b := range batch {
		l.records = append(l.records, append([]byte(nil), b...))
		l.size += int64(len(b))
	}
	return first, next
}

func (l *memHandle) MaxRecord() int { return int(l.limit.Load()) }

func (l *memLog) setLimit(n int) { l.limit.Store(int64(n)) }

func (l *memLog) faults() func(string, bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

func (l *memLog) Read(_ context.Context, from uint64, visit func(uint64, []byte) error) error {
	if err := l.reach(); err != nil {
		return err
	}
	l.mu.Lock()
	records := slices.Clone(l.records) // those that are cut meanwhile, too
	from = max(from, uint64(l.start))
	l.mu.Unlock()
	for o := from; o < uint64(len(records)); o++ {
		if err := visit(o, records[o]); err != nil {
			return err
		}
	}
	return nil
}

func (l *memLog) Bounds(context.Context) (start, end uint64, err error) {
	if err := l.reach(); err != nil {
		return 0, 0, err
	}
	l.bounds.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(l.start), uint64(len(l.records)), nil
}

func (l *memLog) Trim(_ context.Context, before uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late != nil {
		l.late(before)
		return nil
	}
	for ; l.start < min(int(before), len(l.records)); l.start++ {
		l.size -= int64(len(l.records[l.start]))
		l.records[l.start] = nil
	}
	return nil
}

func (l *memLog) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

func (l *memLog) Close() error { return nil }

type memStore struct {
	mu      sync.Mutex
	entries []map[string][]byte
	applied []uint64
	away    bool
}

func (s *memStore) check() error {
	if s.away {
		return errors.New("the store is away")
	}
	return nil
}

func (s *memStore) Apply(_ context.Context, p uint16, from, to uint64, writes []runtime.Mutation) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	if s.applied[p] != from {
		return s.applied[p], nil
	}
	for _, w := range writes {
		switch {
		case w.Prefix:
			for k := range s.entries[p] {
				if strings.HasPrefix(k, string(w.Key)) {
					delete(s.entries[p], k)
				}
			}
		case w.Value == nil:
			delete(s.entries[p], string(w.Key))
		default:
			s.entries[p][string(w.Key)] = w.Value
		}
	}
	s.applied[p] = to
	return to, nil
}

func (s *memStore) Applied(_ context.Context, p uint16) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return 0, err
	}
	return s.applied[p], nil
}

func (s *memStore) Sync(ctx context.Context, p uint16) (uint64, error) { return s.Applied(ctx, p) }
func (s *memStore) Close() error                                       { return nil }

func (s *memStore) Read(_ context.Context, p uint16, fn func(runtime.Snapshot) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	return fn(&memSnapshot{s.entries[p], s.applied[p]})
}

type memSnapshot struct {
	entries map[string][]byte
	applied uint64
}

func (s *memSnapshot) Applied() uint64                { return s.applied }
func (s *memSnapshot) Get(key []byte) ([]byte, error) { return s.entries[string(key)], nil }
func (s *memSnapshot) Scan(prefix []byte, visit func(k, v []byte) bool) error {
	var keys []string
	for k := range s.entries {
		if strings.HasPrefix(k, string(prefix)) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if !visit([]byte(k), s.entries[k]) {
			break
		}
	}
	return nil
}

type memMembers struct {
	s    *memStore
	mu   sync.Mutex
	list map[string]memMember
}

type memMember struct {
	runtime.Member
	until time.Time
}

func (l *memMembers) Announce(_ context.Context, m runtime.Member, ttl time.Duration) ([]runtime.Member, error) {
	l.s.mu.Lock()
	err := l.s.check()
	l.s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list[m.Node] = memMember{m, time.Now().Add(ttl)}
	var all []runtime.Member
	for node, x := range l.list {
		if time.Now().After(x.until) {
			delete(l.list, node)
			continue
		}
		all = append(all, x.Member)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Node < all[j].Node })
	return all, nil
}

func (l *memMembers) Leave(_ context.Context, node string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.list, node)
	return nil
}

// A memNet is the streams between the nodes.
type memNet struct {
	told  atomic.Pointer[func(*engine.Note)] // hears all notes
	mu    sync.Mutex
	nodes map[string]*memPeers
	cut   map[string]bool // "a b"
}

type memPeers struct {
	net  *memNet
	me   string
	h    engine.PeerHandler
	in   chan func()
	quit chan struct{}
	up   map[string]bool
	wait sync.WaitGroup
}

func (n *memNet) connect(me string, h engine.PeerHandler) *memPeers {
	p := &memPeers{net: n, me: me, h: h, in: make(chan func(), 1<<16), quit: make(chan struct{}), up: map[string]bool{}}
	n.mu.Lock()
	n.nodes[me] = p
	n.mu.Unlock()
	p.wait.Go(func() {
		for {
			select {
			case f := <-p.in:
				f()
			case <-p.quit:
				return
			}
		}
	})
	return p
}

func (n *memNet) link(a, b string) *memPeers {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[a+" "+b] {
		return nil
	}
	return n.nodes[b]
}

// sever cuts or restores the streams between two nodes.
func (n *memNet) sever(a, b string, cut bool) {
	n.mu.Lock()
	n.cut[a+" "+b], n.cut[b+" "+a] = cut, cut
	pa, pb := n.nodes[a], n.nodes[b]
	n.mu.Unlock()
	if cut {
		pa.down(b, false)
		pb.down(a, false)
	}
}

func (p *memPeers) down(node string, dead bool) {
	p.net.mu.Lock()
	was := p.up[node]
	delete(p.up, node)
	p.net.mu.Unlock()
	if was {
		p.queue(func() { p.h.PeerDown(node, dead) })
	}
}

func (p *memPeers) queue(f func()) {
	select {
	case p.in <- f:
	case <-p.quit:
	}
}

func (p *memPeers) Connect(members []runtime.Member) {
	for _, m := range members {
		if m.Node == p.me || p.net.link(p.me, m.Node) == nil {
			continue
		}
		p.net.mu.Lock()
		was := p.up[m.Node]
		p.up[m.Node] = true
		p.net.mu.Unlock()
		if !was {
			p.queue(func() { p.h.PeerUp(m.Node) })
			if to := p.net.link(p.me, m.Node); to != nil {
				to.queue(func() { to.h.PeerKnocked(p.me, "http://"+p.me) })
			}
		}
	}
}

func (p *memPeers) Ask(ctx context.Context, node string, op *engine.Op) (*engine.Result, error) {
	to := p.net.link(p.me, node)
	if to == nil {
		return nil, runtime.Errorf(runtime.CodeAskAgain, "no stream")
	}
	ch := make(chan *engine.Result, 1)
	to.queue(func() { to.h.Serve(ctx, p.me, op, func(r *engine.Result) { ch <- r }) })
	select {
	case r := <-ch:
		if p.net.link(p.me, node) != to {
			return nil, runtime.Errorf(runtime.CodeAskAgain, "the stream broke")
		}
		return r, nil
	case <-to.quit:
		return nil, runtime.Errorf(runtime.CodeAskAgain, "the stream broke")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *memPeers) Tell(node string, note *engine.Note) {
	if told := p.net.told.Load(); told != nil {
		(*told)(note)
	}
	if to := p.net.link(p.me, node); to != nil {
		to.queue(func() { to.h.Heard(p.me, note) })
	}
}

// Close is also how a node dies: the others see its streams refused.
func (p *memPeers) Close() error {
	p.net.mu.Lock()
	if p.net.nodes[p.me] == p {
		delete(p.net.nodes, p.me)
	}
	var others []*memPeers
	for _, x := range p.net.nodes {
		others = append(others, x)
	}
	p.net.mu.Unlock()
	close(p.quit)
	p.wait.Wait()
	for _, x := range others {
		x.down(p.me, true)
	}
	return nil
}

// A meshRig is all of it.
type meshRig struct {
	t       *testing.T
	parts   int
	logs    []*memLog
	store   *memStore
	members *memMembers
	net     *memNet
	lease   time.Duration
	nodes   map[string]*engine.Mesh
}

func newMeshRig(t *testing.T, parts int) *meshRig {
	r := &meshRig{
		t: t, parts: parts, store: &memStore{applied: make([]uint64, parts)}, lease: 600 * time.Millisecond,
		net: &memNet{nodes: map[string]*memPeers{}, cut: map[string]bool{}}, nodes: map[string]*engine.Mesh{},
	}
	r.members = &memMembers{s: r.store, list: map[string]memMember{}}
	for range parts {
		r.logs = append(r.logs, &memLog{})
		r.store.entries = append(r.store.entries, map[string][]byte{})
	}
	t.Cleanup(func() {
		for _, n := range r.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		for p, l := range r.logs {
			if n := l.broken.Load(); n > 0 {
				t.Errorf("partition %d: %d appends went past a batch of which nobody knew whether it had landed", p, n)
			}
			if n := l.atOnce.Load(); n > 0 {
				t.Errorf("partition %d: %d appends began while another one of their gateway was in flight", p, n)
			}
		}
	})
	return r
}

// gatewayLease is that of the nodes of a rig.
const gatewayLease = 400 * time.Millisecond

// open starts a node and waits until it knows all owners.
func (r *meshRig) open(name string, tune ...func(*engine.Config)) *engine.Mesh {
	r.t.Helper()
	m := r.start(name, tune...)
	if err := m.Settled(within(r.t)); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// start starts a node.
func (r *meshRig) start(name string, tune ...func(*engine.Config)) *engine.Mesh {
	r.t.Helper()
	cfg := engine.Config{
		Partitions: r.parts, Node: name, Mesh: "test", Store: r.store, Lease: r.lease, Logger: slog.New(slog.NewTextHandler(r.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name),
		Logs: func(p uint16) (runtime.Log, error) { return &memHandle{memLog: r.logs[p], node: name}, nil },
		Shared: &engine.Shared{
			Connect: func(h engine.PeerHandler) (engine.Peers, error) { return r.net.connect(name, h), nil },
			Members: r.members, Address: "http://" + name, Lease: gatewayLease,
		},
	}
	for _, f := range tune {
		f(&cfg)
	}
	m, err := engine.Open(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.nodes[name] = m
	return m
}

// eventually polls until ok, or fails.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventuallyIn(t, 10*time.Second, what, ok)
}

func eventuallyIn(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// owners are the nodes that partitions belong to, as a node knows it.
func owners(m *engine.Mesh) map[string]int {
	by := map[string]int{}
	for _, o := range m.Owners() {
		by[o]++
	}
	return by
}

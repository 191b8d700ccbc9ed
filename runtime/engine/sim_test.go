package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// TestDriver plays the real engine, with its goroutines, its ownership and what it
// says to other gateways and to hosts, in virtual time, on a log, a store and streams
// that are slow, break and lie about what has landed. Gateways and hosts die, stand
// still, leave and come; a witness judges what runs (sim_judge_test.go). The rules alone
// are played in runtime/runtimetest, which does not reach the driver.
//
// KAR_DRIVER is for how long it plays, KAR_SEED where the seeds begin, KAR_DRIVER_RUNS how
// many there are, and KAR_DRIVER_ALL goes on behind one that fails; KAR_DRIVER_TRACE is a
// folder for what happened in those. A seed decides what is done when, but not the order
// of goroutines, so that a run can differ.
func TestDriver(t *testing.T) {
	seed, runs, until := uint64(time.Now().UnixNano()), 6, time.Time{}
	if s := os.Getenv("KAR_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	if testing.Short() {
		runs = 3
	}
	if s := os.Getenv("KAR_DRIVER_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	if s := os.Getenv("KAR_DRIVER"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		runs, until = 1<<30, time.Now().Add(d)
	}
	played, total := 0, simCounts{}
	for i := range runs {
		if !until.IsZero() && time.Now().After(until) {
			break
		}
		t.Run(fmt.Sprint("seed ", seed+uint64(i)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed+uint64(i))
				w.play()
				total.add(w.judge.counts)
			})
		})
		played++
		if t.Failed() && os.Getenv("KAR_DRIVER_ALL") == "" {
			break
		}
	}
	t.Logf("%d runs from seed %d: %+v", played, seed, total)
}

// What hosts of a world do that no host may do.
const (
	bugNoFreeze = "a host goes on behind its lease"
	bugForgets  = "a host forgets what it has finished"
)

// TestDriverSeesBugs: the judge sees hosts that do what no host may do. That it sees bugs
// of the engine, mutants show (docs/proof.md).
func TestDriverSeesBugs(t *testing.T) {
	for _, bug := range []string{bugNoFreeze, bugForgets} {
		seen, runs := int32(0), 0
		for ; seen == 0 && runs < 60; runs++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, uint64(runs))
				w.bug = bug
				w.kind.bursts, w.kind.calmNodes, w.kind.calmHosts, w.kind.pace = false, false, false, time.Second
				w.play()
				seen = w.judge.seen.Load()
			})
		}
		if t.Logf("%s: seen in run %d", bug, runs); seen == 0 {
			t.Errorf("nobody sees that %s", bug)
		}
	}
}

// Times of a world. Gateways and hosts have the leases of a mesh in use.
const (
	simLease    = 6 * time.Second
	simPatience = 8 * time.Minute // after which a request that has not ended is stuck
)

// A world is a mesh of several gateways, hosts and clients, in one bubble of virtual time.
type world struct {
	t       *testing.T
	dice    *dice
	kind    simKind
	parts   int
	logs    []*memLog
	store   *memStore
	members *memMembers
	net     *simNet
	judge   *judge
	trace   *trace
	bug     string // planted, see TestDriverSeesBugs; "" for none

	over context.Context // ends when everybody has to stop
	stop context.CancelFunc
	calm chan struct{} // closed when there are no faults any more

	mu     sync.Mutex
	nodes  []*simNode // alive, in order of their coming
	hosts  []*simHost
	made   int // nodes and hosts, for their names
	duties *simDuties
	away   map[string]bool
}

// simKind is what differs from run to run.
type simKind struct {
	nodes, parts, hosts, clients int
	length                       time.Duration
	trimAt                       int64
	hostLimit                    int
	slowLog                      bool // appends that take seconds now and then
	calmNodes                    bool // nothing happens to gateways
	calmHosts                    bool
	fullLog                      bool          // large appends are refused for a while
	bursts                       bool          // clients that accept many tells at once
	pace                         time.Duration // between two faults, at most
	memory                       int64         // of a gateway; 0 for any
	flaps                        bool          // streams between gateways break all the time
}

// dice are the decisions of a seed.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// one in n times.
func (d *dice) oneIn(n int) bool { return d.n(n) == 0 }

func (d *dice) between(a, b time.Duration) time.Duration {
	return a + time.Duration(d.n(int(b-a)+1))
}

func newWorld(t *testing.T, seed uint64) *world {
	d := &dice{r: rand.New(rand.NewPCG(seed, 1))}
	w := &world{
		t: t, dice: d, trace: &trace{seed: seed, began: time.Now()}, calm: make(chan struct{}), away: map[string]bool{},
		kind: simKind{
			nodes: 1 + d.n(4), parts: 1 + d.n(6), hosts: 1 + d.n(4), clients: 2 + d.n(8), length: d.between(15*time.Second, 60*time.Second),
			trimAt: 32 << (10 + d.n(8)), hostLimit: 3 << d.n(8), slowLog: d.oneIn(3), calmNodes: d.oneIn(4), calmHosts: d.oneIn(4),
			fullLog: d.oneIn(4), bursts: d.oneIn(4), pace: time.Second << d.n(3), flaps: d.oneIn(4),
		},
	}
	if d.oneIn(4) {
		w.kind.memory = 1 << (18 + d.n(5))
	}
	w.parts = w.kind.parts
	w.over, w.stop = context.WithCancel(t.Context())
	w.store = &memStore{applied: make([]uint64, w.parts)}
	w.members = &memMembers{s: w.store, list: map[string]memMember{}}
	for range w.parts {
		w.logs = append(w.logs, &memLog{})
		w.store.entries = append(w.store.entries, map[string][]byte{})
	}
	w.net = newSimNet(w)
	w.judge = newJudge(w)
	w.duties = newSimDuties()
	return w
}

// A simNode is one life of a gateway.
type simNode struct {
	w     *world
	name  string
	mesh  *engine.Mesh
	ended context.Context // the process is dead
	die   context.CancelFunc

	mu      sync.Mutex
	stands  time.Time // still until then
	leaving bool
}

// pass lets something of the node go out or in: not when it is dead, later when it stands still.
func (n *simNode) pass() error {
	for {
		if n.ended.Err() != nil {
			return errDead
		}
		n.mu.Lock()
		wait := time.Until(n.stands)
		n.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		sleepFor(n.ended, wait)
	}
}

func (n *simNode) dead() bool { return n.ended.Err() != nil }

func sleepFor(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// spawn begins something that ends by itself when the world does: the bubble waits for it.
func (w *world) spawn(f func()) { go f() }

func (w *world) openNode() *simNode {
	w.mu.Lock()
	w.made++
	n := &simNode{w: w, name: fmt.Sprint("n", w.made)}
	w.mu.Unlock()
	n.ended, n.die = context.WithCancel(context.Background())
	cfg := engine.Config{
		Partitions: w.parts, Node: n.name, Mesh: "test", Store: &simStore{w.store, n}, Lease: simLease,
		Logger: slog.New(slog.NewTextHandler(w.trace, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: withoutTime})).With("node", n.name),
		TrimAt: w.kind.trimAt, HostLimit: w.kind.hostLimit, Memory: w.kind.memory,
		Logs: func(p uint16) (runtime.Log, error) {
			return &simLog{memHandle: &memHandle{memLog: w.logs[p], node: n.name, say: w.trace.say}, n: n, p: p}, nil
		},
		Shared: &engine.Shared{
			Connect: func(h engine.PeerHandler) (engine.Peers, error) { return w.net.connect(n, h), nil },
			Members: &simMembers{w.members, n}, Address: "http://" + n.name, Lease: 2 * time.Second,
		},
	}
	w.trace.say("node %s begins", n.name)
	m, err := engine.Open(w.over, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	n.mesh = m
	w.spawn(func() { w.pump(n) })
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
	return n
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// alive are the gateways that have not ended, those that leave included.
func (w *world) alive() []*simNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*simNode(nil), w.nodes...)
}

func (w *world) anyNode() *simNode {
	if ns := w.alive(); len(ns) > 0 {
		return ns[w.dice.n(len(ns))]
	}
	return nil
}

func (w *world) forget(n *simNode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, x := range w.nodes {
		if x == n {
			w.nodes = append(w.nodes[:i:i], w.nodes[i+1:]...)
			return
		}
	}
}

// crash ends a gateway: nothing of it goes out any more.
func (w *world) crash(n *simNode) {
	w.trace.say("node %s crashes", n.name)
	w.forget(n)
	n.die()
	w.net.dead(n)
	w.spawn(func() { _ = n.mesh.Close() }) // its peers' error, none
}

// leave ends a gateway as an operator does.
func (w *world) leave(n *simNode) {
	n.mu.Lock()
	before := n.leaving
	n.leaving = true
	n.mu.Unlock()
	if before {
		return
	}
	w.trace.say("node %s leaves", n.name)
	w.spawn(func() {
		ctx, cancel := context.WithTimeout(n.ended, 10*time.Second)
		defer cancel()
		n.mesh.Leave(ctx)
		if n.dead() {
			return
		}
		w.forget(n)
		_ = n.mesh.Close()
		w.trace.say("node %s has left", n.name)
		n.die()
		w.net.dead(n)
	})
}

// stand lets a gateway stand still: nothing goes in or out.
func (n *simNode) stand(d time.Duration) {
	n.w.trace.say("node %s stands still for %s", n.name, d)
	n.mu.Lock()
	n.stands = time.Now().Add(d)
	n.mu.Unlock()
}

// play is one run.
func (w *world) play() {
	w.trace.say("%+v", w.kind)
	for range w.kind.nodes {
		w.openNode()
	}
	for range w.kind.hosts {
		w.openHost()
	}
	two := w.dice.oneIn(2)
	if two {
		w.openHostOf("two")
		w.judge.clients.Go(func() { newSimClient(w, 99).two() })
	}
	for c := range w.kind.clients {
		w.judge.clients.Go(func() { newSimClient(w, c).run() })
	}
	if w.kind.flaps {
		w.spawn(w.flap)
	}
	for end := time.Now().Add(w.kind.length); time.Now().Before(end); {
		if !sleepFor(w.over, w.dice.between(10*time.Millisecond, w.kind.pace)) {
			return
		}
		w.trouble()
	}
	w.heal()
	if !w.judge.settle() {
		w.judge.fault("what was accepted has not ended: %s", w.judge.open())
		for _, n := range w.alive() {
			st := n.mesh.Stats()
			w.t.Log(n.name, n.mesh.Owners(), st.Pending, st.Parked, st.Running)
		}
	}
	w.duties.end(w.judge)
	if n := w.open(); n > 0 {
		w.judge.fault("%d requests wait or run when all has ended", n)
	}
	w.end()
}

// open counts what the owners say of requests that wait or run.
func (w *world) open() (n int) {
	for _, x := range w.alive() {
		st := x.mesh.Stats()
		n += int(st.Pending + st.Parked + st.Running)
	}
	return n
}

// trouble is one thing that goes wrong.
func (w *world) trouble() {
	ns := w.alive()
	n := w.anyNode()
	w.mu.Lock()
	hosts := append([]*simHost(nil), w.hosts...)
	w.mu.Unlock()
	var h *simHost
	if len(hosts) > 0 {
		h = hosts[w.dice.n(len(hosts))]
	}
	p := w.dice.n(w.parts)
	switch what := w.dice.n(16); {
	case what < 2 && len(ns) < w.kind.nodes+1:
		w.openNode()
	case what == 2 && !w.kind.calmNodes && n != nil:
		w.crash(n)
		if len(ns) == 1 {
			w.openNode()
		}
	case what == 3 && !w.kind.calmNodes && len(ns) > 1:
		w.leave(n)
	case what == 4 && !w.kind.calmNodes && n != nil:
		n.stand(w.dice.between(100*time.Millisecond, 9*time.Second))
	case what <= 6 && n != nil:
		w.net.sever(n, w.anyNode(), w.dice.between(10*time.Millisecond, 8*time.Second))
	case what == 7:
		w.turn(fmt.Sprint("log ", p), w.dice.between(50*time.Millisecond, 6*time.Second))
	case what == 8:
		w.turn("store", w.dice.between(50*time.Millisecond, 6*time.Second))
	case what == 9:
		w.wipe(p)
	case what == 10 && w.kind.fullLog:
		w.turn(fmt.Sprint("full ", p), w.dice.between(500*time.Millisecond, 8*time.Second))
	case what == 11 && w.kind.slowLog:
		w.turn(fmt.Sprint("slow ", p), w.dice.between(time.Second, 20*time.Second))
	case h == nil || w.kind.calmHosts:
	case what == 12:
		h.kill("killed", w.dice.oneIn(2))
	case what == 13:
		h.unlink("cut")
	case what == 14:
		h.stand(w.dice.between(100*time.Millisecond, 9*time.Second))
	case what == 15:
		h.drain()
	}
}

// flap breaks streams between gateways for moments.
func (w *world) flap() {
	for !w.isCalm() && sleepFor(w.over, w.dice.between(0, 150*time.Millisecond)) {
		if a, b := w.anyNode(), w.anyNode(); a != nil && b != nil {
			w.net.sever(a, b, w.dice.between(0, 30*time.Millisecond))
		}
	}
}

// turn has something out of order for a while: "store", "log 3", "full 3", "slow 3".
func (w *world) turn(what string, d time.Duration) {
	w.trace.say("%s is out of order for %s", what, d)
	w.mu.Lock()
	w.away[what] = true
	w.mu.Unlock()
	w.spawn(func() {
		sleepFor(w.over, d)
		w.mu.Lock()
		delete(w.away, what)
		w.mu.Unlock()
	})
}

func (w *world) out(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away[what]
}

// wipe empties the store of a partition when its log reaches back to the beginning, as
// only then it can be made anew.
func (w *world) wipe(p int) {
	w.logs[p].mu.Lock()
	whole := w.logs[p].start == 0
	w.logs[p].mu.Unlock()
	if !whole {
		return
	}
	w.trace.say("the store of partition %d is emptied", p)
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.entries[p], w.store.applied[p] = map[string][]byte{}, 0
}

// heal ends all faults; what there is from now on lives.
func (w *world) heal() {
	w.trace.say("calm")
	close(w.calm)
	w.mu.Lock()
	w.away = map[string]bool{}
	none, noTwo := true, true
	for _, h := range w.hosts {
		none, noTwo = none && h.app != "app", noTwo && h.app != "two"
	}
	w.mu.Unlock()
	for _, n := range w.alive() {
		n.mu.Lock()
		n.stands = time.Time{}
		n.mu.Unlock()
	}
	w.net.heal()
	w.openNode()
	if none {
		w.openHost()
	}
	if noTwo {
		w.openHostOf("two")
	}
}

func (w *world) isCalm() bool {
	select {
	case <-w.calm:
		return true
	default:
		return false
	}
}

// end stops everybody, so that nothing is left in the bubble.
func (w *world) end() {
	w.mu.Lock()
	hosts := append([]*simHost(nil), w.hosts...)
	w.mu.Unlock()
	for _, h := range hosts {
		h.kill("the end", false)
	}
	w.stop()
	for _, n := range w.alive() {
		_ = n.mesh.Close()
		n.die()
		w.net.dead(n)
	}
	for p, l := range w.logs {
		if n := l.broken.Load(); n > 0 {
			w.judge.fault("partition %d: %d appends went past a batch of which nobody knew whether it had landed", p, n)
		}
		if n := l.atOnce.Load(); n > 0 {
			w.judge.fault("partition %d: %d appends began while another one of their gateway was in flight", p, n)
		}
	}
	w.trace.tell(w.t)
}

// trace is what happened, for whoever reads a failed run.
type trace struct {
	mu    sync.Mutex
	seed  uint64
	began time.Time
	lines []string
}

func (t *trace) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf("%9.3f ", time.Since(t.began).Seconds())+fmt.Sprintf(format, args...))
}

func (t *trace) Write(b []byte) (int, error) {
	t.say("        %s", strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

func (t *trace) tell(tt *testing.T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir := os.Getenv("KAR_DRIVER_TRACE"); dir != "" && tt.Failed() {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("seed-%d", t.seed)), []byte(strings.Join(t.lines, "\n")+"\n"), 0o600); err != nil {
			tt.Error(err)
		}
	}
	if tt.Failed() {
		tt.Logf("the last of %d lines (KAR_DRIVER_TRACE has all):\n%s", len(t.lines), strings.Join(t.lines[max(0, len(t.lines)-60):], "\n"))
	}
}

var errLate = errors.New("it lands later")

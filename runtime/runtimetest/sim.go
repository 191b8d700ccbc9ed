package runtimetest

import (
	"container/heap"
	"fmt"
	"math/rand"
	"runtime/debug"

	"github.com/karmesh/kar/runtime"
)

// SimOptions say what one simulated run is like. Everything else follows from Seed.
type SimOptions struct {
	Seed       int64
	Partitions int
	Nodes      int   // gateways that compete for the partitions
	Millis     int64 // how long faults and clients go on
	// Purge lets operators purge and drain the app while it works.
	Purge bool
	// Wild lets attempts make parallel calls, calls that nobody waits for, tells
	// and promises, calls after their answer, and calls with sessions made up.
	Wild bool
	// Limits gives requests limits, and the mesh bounds.
	Limits bool
	// Foreign reads and changes state in every way, also from outside.
	Foreign bool
	// Store lets it lag, go away and fall back.
	Store bool
	// Short makes the id window and the retention of outcomes short enough that
	// things are forgotten while the run goes on.
	Short bool
	// Change sets, replaces and removes reminders and subscriptions.
	Change bool
	// Burst publishes more events at once than a group may have under way.
	Burst bool
	// Jumps sets wall clocks forth and back.
	Jumps bool
	// HostLimit is runtime.Config's.
	HostLimit int
	// Bug plants a defect in the shell, by name, to prove that the witness sees it.
	Bug string
	// Trace writes down what happens; it costs more than the run.
	Trace bool
	// Records also writes down what owners are told and what they record.
	Records bool
}

// A SimReport is what a run was like.
type SimReport struct {
	Violations []string
	Trace      uint64 // hash of everything that was written down, in order
	Tail       []string
	Attempts, Requests, Crashes, Losses,
	Trims, Fires, Events, Heals, TooOld int
}

// A sim is a whole mesh in one thread: logs, gateways, hosts, clients and the
// faults that befall them. Time is a number; chance is one generator.
type sim struct {
	opt     SimOptions
	rng     *rand.Rand
	now     int64
	queue   simQueue
	order   int
	parts   []*simLog
	nodes   []*simNode
	apps    []string
	hosts   []*simHost
	boots   int
	asks    int
	changes int
	wit     *witness
	report  SimReport
	faults  bool
	topic   [][]byte // events published
	subs    []runtime.Subscription
}

type simEvent struct {
	at    int64
	order int
	do    func()
}

type simQueue []*simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(*simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

const (
	simApp      = "dp" // the one that operators purge and drain
	simOther    = "eb" // its neighbour
	simActors   = 6
	simAttempts = 8 // MaxAttempts, where there is one
	// The id window and the retention of outcomes, where they are short, in ms.
	simWindow    = 60_000
	simRetention = 40_000
	simStart     = 1767225600000
	simJump      = 60_000
	simFirstDue  = 6000    // ms, of the reminder
	simQuiet     = 180_000 // ms without faults at the end, in which everything must end
	simRest      = 40_000  // the end of it, in which nothing new begins
)

// Simulate plays one run. A rule that panics has broken its promise.
func Simulate(opt SimOptions) (report SimReport) {
	s := newSim(opt)
	defer func() {
		if r := recover(); r != nil {
			s.wit.fail("panic: %v\n%s", r, debug.Stack())
		}
		s.report.Violations = s.wit.violations
		report = s.report
	}()
	s.play()
	return
}

// newSim is a mesh with hosts, clients and faults that wait for run.
func newSim(opt SimOptions) *sim {
	s := &sim{opt: opt, rng: rand.New(rand.NewSource(opt.Seed)), faults: true}
	s.wit = newWitness(s)
	for p := range opt.Partitions {
		l := &simLog{s: s, n: uint16(p)}
		l.store = &simStore{log: l}
		s.parts = append(s.parts, l)
		if opt.Store {
			l.store.save()
		}
	}
	for n := range opt.Nodes {
		s.nodes = append(s.nodes, &simNode{s: s, n: n, alive: true})
	}
	for _, n := range s.nodes {
		n.boot()
	}
	s.apps = []string{simApp}
	if opt.Purge {
		s.apps = append(s.apps, simOther)
	}
	for _, app := range s.apps {
		for range 3 {
			s.spawn(app)
		}
		s.startClients(app)
	}
	s.after(500, s.publish)
	if opt.Burst {
		s.after(3000, func() {
			for range 1300 {
				s.publishOne()
			}
		})
	}
	s.after(s.between(300, 1500), s.fault)
	if opt.Purge {
		s.after(s.between(1000, opt.Millis*2/3), s.operate)
	}
	return s
}

func (s *sim) play() {
	s.run(s.opt.Millis)
	s.faults = false
	s.trace("faults end")
	s.calm()
	s.run(s.opt.Millis + simQuiet - simRest)
	s.endReminders()
	s.run(s.opt.Millis + simQuiet)
	s.wit.atEnd()
	for _, l := range s.parts {
		l.check()
	}
}

func (s *sim) run(until int64) {
	for len(s.queue) > 0 && s.queue[0].at <= until && len(s.wit.violations) == 0 {
		e := heap.Pop(&s.queue).(*simEvent)
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *sim) after(ms int64, do func()) {
	s.order++
	heap.Push(&s.queue, &simEvent{s.now + ms, s.order, do})
}

func (s *sim) between(a, b int64) int64 { return a + s.rng.Int63n(b-a+1) }
func (s *sim) chance(percent int) bool  { return s.rng.Intn(100) < percent }

func (s *sim) config(p uint16, node string) runtime.Config {
	cfg := runtime.Config{
		Mesh: "sim", Partition: p, Partitions: s.opt.Partitions, Node: node, Lease: simLease,
		IDWindow: 600_000, ResultRetention: 86_400_000,
		HostLimit: s.opt.HostLimit,
	}
	if s.opt.Short {
		cfg.IDWindow, cfg.ResultRetention = simWindow, simRetention
	}
	if s.opt.Limits {
		cfg.MailboxLimit, cfg.HostBytes, cfg.MaxAttempts = 4, 4000, simAttempts
	}
	return cfg
}

func (s *sim) newID(t runtime.Target, key string) runtime.ID {
	var rnd [6]byte
	_, _ = s.rng.Read(rnd[:])
	id := runtime.NewID(simStart+s.now, 0, t.App, rnd)
	return runtime.NewID(simStart+s.now, runtime.PartitionOf(t, key, id, s.opt.Partitions), t.App, rnd)
}

func simActor(app string, i int) runtime.Target {
	return runtime.Target{App: app, Type: "A", ID: fmt.Sprint(i)}
}

func simService(app string) runtime.Target { return runtime.Target{App: app, Service: "s"} }

// fault lets something go wrong, again and again.
func (s *sim) fault() {
	if !s.faults {
		return
	}
	n := s.nodes[s.rng.Intn(len(s.nodes))]
	h := s.anyHost()
	if s.opt.Limits && s.chance(3) {
		s.cancelAll()
	}
	if v := s.parts[s.rng.Intn(len(s.parts))].store; s.opt.Store && s.chance(15) {
		if s.chance(50) {
			v.fallBack()
		} else {
			v.away = s.now + s.between(300, 8000)
			s.trace("store %d is away until %d", v.log.n, v.away)
		}
	}
	if s.opt.Jumps && s.chance(10) {
		n.jump = s.between(-simJump, simJump)
		s.trace("the clock of node %d is set by %d", n.n, n.jump)
	}
	switch s.rng.Intn(13) {
	case 0, 1:
		n.crash()
		s.after(s.between(50, 3000), n.boot)
	case 2:
		n.pause(s.between(100, 9000))
	case 3, 4:
		if h != nil {
			h.die(s.chance(60))
		}
	case 5:
		if h != nil {
			h.stop(s.between(200, 12_000))
		}
	case 6, 7:
		if h != nil {
			h.cut(s.nodes[s.rng.Intn(len(s.nodes))])
		}
	case 8, 9:
		for _, l := range s.parts {
			if o := n.owners[l.n]; o != nil {
				o.trim()
			}
		}
	case 10:
		if len(s.nodes) > 1 {
			p := s.parts[s.rng.Intn(len(s.parts))]
			n.claim(p) // without being asked: two owners
		}
	case 12:
		if h != nil {
			h.drain()
		}
	case 11:
		s.wit.flaky = s.now + s.between(200, 2000)
	}
	for _, app := range s.apps {
		if s.liveHosts(app) < 3 {
			s.after(s.between(0, 2000), func() { s.spawn(app) })
		}
	}
	s.after(s.between(100, 2500), s.fault)
}

// operate purges or drains an app, again and again.
func (s *sim) operate() {
	s.wit.operates++
	again := func() {
		s.wit.operates--
		if s.faults && s.chance(50) {
			s.after(s.between(500, 4000), s.operate)
		}
	}
	if s.chance(40) {
		s.trace("drain")
		began := s.now
		s.wit.withdrawn(simApp)
		left := len(s.parts)
		for _, p := range s.parts {
			s.settledUnder(simApp, p.n, func(id runtime.ID, w any) runtime.Input { return &runtime.Drain{App: simApp, ID: id, Waiter: w} }, func() {
				if left--; left == 0 {
					s.trace("drain is done")
					s.wit.drained(simApp, began)
					again()
				}
			})
		}
		return
	}
	s.trace("purge")
	s.wit.purges++
	s.wit.forgive(simApp)
	var gone, old []*simWrite
	for i := range simActors {
		a := simActor(simApp, i).Actor()
		old = append(old, s.wit.model(a).writes...)
		gone = append(gone, s.wit.vanishes(a)...)
	}
	home := runtime.AppPartition(simApp, s.opt.Partitions)
	s.settledUnder(simApp, home, func(id runtime.ID, w any) runtime.Input {
		s.wit.raised[id] = true
		return &runtime.Purge{App: simApp, ID: id, Waiter: w}
	}, func() {
		s.generation(home)
		s.trace("purge is done")
		s.wit.purged(simApp, gone, old)
		s.wit.forgive(simApp)
		s.wit.purges--
		again()
	})
}

// generation judges that no purge is carried out twice.
func (s *sim) generation(home uint16) {
	if o := s.ownerOf(home); o != nil {
		o.ask(func(w any) runtime.Input {
			return &runtime.Query{Kind: runtime.QueryGeneration, App: simApp, Waiter: w}
		}, func(e *runtime.Effect) {
			if n, _ := e.Value.(uint64); n > uint64(len(s.wit.raised)) {
				s.wit.fail("P1: the app is in generation %d after %d purges", n, len(s.wit.raised))
			}
		})
	}
}

// cancelAll withdraws what has not started in one partition.
func (s *sim) cancelAll() {
	p := s.parts[s.rng.Intn(len(s.parts))]
	app := s.apps[s.rng.Intn(len(s.apps))]
	s.trace("all of %s in partition %d are cancelled", app, p.n)
	s.wit.cancels[app]++
	s.wit.withdrawn(app)
	s.settledUnder(app, p.n, func(id runtime.ID, w any) runtime.Input { return &runtime.CancelAll{App: app, ID: id, Waiter: w} }, func() {
		s.wit.withdrawn(app)
		s.wit.drains = append(s.wit.drains, simDrain{app: app, began: s.now - 4000, done: s.now, partly: true})
		s.wit.cancels[app]--
	})
}

// calm repairs everything: what is left must end.
func (s *sim) calm() {
	for _, n := range s.nodes {
		n.jump = 0
		if !n.alive {
			n.boot()
		}
	}
	s.keepHosts()
}

// keepHosts: those that were stopped when the faults ended may still die of it.
func (s *sim) keepHosts() {
	for _, app := range s.apps {
		for s.liveHosts(app) < 2 {
			s.spawn(app)
		}
	}
	s.after(2000, s.keepHosts)
}

func (s *sim) liveHosts(app string) int {
	n := 0
	for _, h := range s.hosts {
		if h.name == app && !h.dead && !h.draining {
			n++
		}
	}
	return n
}

func (s *sim) anyHost() *simHost {
	var live []*simHost
	for _, h := range s.hosts {
		if !h.dead {
			live = append(live, h)
		}
	}
	if len(live) == 0 {
		return nil
	}
	return live[s.rng.Intn(len(live))]
}

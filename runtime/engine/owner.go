package engine

import (
	"context"
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
	read        time.Time            // when it was read last
	paused      bool                 // this process stood still: what it knows may be old
	taken, lost int                  // partitions since the last line in the log about them
	up          map[string]bool      // streams that stand
	met         bool                 // a stream stood at some time
	parted      map[string]time.Time // when a stream broke that has not come back
	dead        map[string]time.Time // when a process was first found to be gone
	told        map[string]bool      // nodes that have said what they own
	busy        map[uint16]bool      // partitions that are being taken here, true without asking an owner
	taking      map[uint16]string    // partitions that others are about to own
	since       map[string]time.Time // when a member was first listed
	leaving     bool
	away        map[uint16]time.Time // logs that were out of reach when they were tried last
	inRow       int                  // so many more have been, since one answered
	tried       time.Time            // while none answers: when one was tried for all
	shuns       map[uint16]shun      // partitions that are left to others
	vacant      map[uint16]time.Time // since when nobody who lives owns it, or is taking it
	missing     map[uint16]time.Time // since when nobody who lives owns it
	stuck       map[uint16]time.Time // since when this gateway fails to take them
	probing     atomic.Bool
	unfit       error // why this gateway should own nothing now, nil when it may

	settled atomic.Bool // this gateway was ready at some time
	// Of claims by gateways that may live.
	doubts map[uint16]doubt
	ousted map[uint16]bool // lost to a claim, and not looked at by whose
	losses map[uint16]loss

	joined    bool // this gateway has owned something
	admission runtime.Admission
	apart     map[string]time.Time // since when both read lists without the other
	aheads    map[uint16]ahead     // partitions whose owners say that they are in a term that is not in the log
	said      map[string]bool      // gateways of which the log has said that they do not fit

	heard map[string]acquaintance     // gateways that are not in the list, by their own word or their claims
	vouch map[string][]runtime.Member // those with a stream to a gateway that has one to this
	shown []string                    // the addresses that attached hosts were told last

	trouble trouble // with the list

	loops  []watchedLoop // of the loop, like looked
	looked time.Time

	telling    sync.Mutex // orders the notes about what is owned
	connecting sync.Mutex // orders what the streams are told of who is known

	turn  int           // of the loop: which partition is tried next for all
	slots chan struct{} // bounds how many partitions are read at a time
	tasks sync.WaitGroup
}

// takeAtOnce bounds the partitions that are read side by side. Only a log that
// answers has a turn, and none is kept for what waits without a bound.
const takeAtOnce = 8

func newOwnerLoop(m *Mesh) *ownerLoop {
	return &ownerLoop{
		loops: make([]watchedLoop, m.cfg.Partitions),
		m:     m, wake: make(chan struct{}, 1), relist: make(chan struct{}, 1), up: map[string]bool{}, parted: map[string]time.Time{}, dead: map[string]time.Time{}, told: map[string]bool{},
		taking: map[uint16]string{}, since: map[string]time.Time{}, busy: map[uint16]bool{}, doubts: map[uint16]doubt{}, apart: map[string]time.Time{}, said: map[string]bool{}, aheads: map[uint16]ahead{}, shuns: map[uint16]shun{}, vacant: map[uint16]time.Time{}, missing: map[uint16]time.Time{}, stuck: map[uint16]time.Time{}, ousted: map[uint16]bool{}, losses: map[uint16]loss{}, heard: map[string]acquaintance{}, vouch: map[string][]runtime.Member{}, away: map[uint16]time.Time{}, slots: make(chan struct{}, takeAtOnce),
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
	var asked time.Time
	list := func() {
		if o.listFails() && time.Since(asked) < time.Second {
			return
		}
		asked = time.Now()
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
			o.watchLoops()
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

// awayPause is how long a log that is out of reach is left alone.
const awayPause = time.Second

// noneAnswers tells that it is not some logs that are out of reach; o.mu is held.
func (o *ownerLoop) noneAnswers() bool { return o.inRow >= min(3, len(o.m.parts)) }

// decide begins what the rule says about each partition. A log that is out of reach
// is tried each second; while none answers one is, for all of them.
func (o *ownerLoop) decide(ctx context.Context) {
	o.admit()
	o.mu.Lock()
	o.missLocked(time.Now())
	away, soon := o.noneAnswers(), time.Since(o.tried) < awayPause
	if away && !soon {
		o.tried = time.Now()
	}
	o.mu.Unlock()
	if away && soon {
		return
	}
	tried := false
	for i := range o.m.parts {
		p := uint16((i + o.turn) % len(o.m.parts))
		if away && tried {
			break
		}
		if o.plan(p).step == runtime.OwnershipKeep {
			o.unstuck(p)
			continue
		}
		tried = true
		if away {
			o.turn = int(p) + 1
		}
		o.mu.Lock()
		_, busy := o.busy[p]
		busy = busy || !away && time.Since(o.away[p]) < awayPause
		if !busy {
			o.busy[p] = false
		}
		o.mu.Unlock()
		if !busy {
			o.tasks.Go(func() { o.try(ctx, p) })
		}
	}
}

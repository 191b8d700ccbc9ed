// Package events moves events between topics and actors. What an event means
// for a subscription is a rule of package runtime; this room is the I/O.
package events

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// Config wires a Pump; all fields are needed.
type Config struct {
	Mesh   *engine.Mesh
	Topics runtime.Topics
	Logger *slog.Logger
}

// A Pump feeds each consumer group from its topic, in order.
type Pump struct {
	cfg     Config
	missing *missing
}

// New makes a Pump.
func New(cfg Config) (*Pump, error) {
	if cfg.Mesh == nil || cfg.Topics == nil || cfg.Logger == nil {
		return nil, errors.New("events: Mesh, Topics and Logger are needed")
	}
	return &Pump{cfg, newMissing(cfg.Topics, cfg.Logger)}, nil
}

// lookAgain is how long a list of groups is believed without a word of a
// change: one that was read in a bad moment may lack a group.
const lookAgain = 5 * time.Second

// listPause for each group that was listed is how long a change waits before all are
// listed anew: that takes some microseconds of a partition's loop for each.
const listPause = 20 * time.Microsecond

// Run follows the list of groups until ctx ends; it returns when every group's
// goroutine has ended.
func (p *Pump) Run(ctx context.Context) error {
	active := map[string]*follower{}
	ended := make(chan *follower)
	ctx, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { p.missing.look(ctx) })
	defer looking.Wait()
	defer stop()
	defer func() {
		for _, f := range active {
			f.cancel()
		}
		for len(active) > 0 {
			delete(active, (<-ended).group.Key)
		}
	}()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		n, changed := p.match(ctx, active, ended)
		if !sleep(ctx, time.Duration(n)*listPause) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case f := <-ended: // its group went away, and may have come back by now
			delete(active, f.group.Key)
		case <-changed:
		case <-again.C:
		}
	}
}

// match lists the groups and tells how many there are. It starts a follower for each group
// that has none, and stops those whose group has gone or is no longer the one they follow;
// the latter start anew once they have ended.
func (p *Pump) match(ctx context.Context, active map[string]*follower, ended chan<- *follower) (listed int, changed <-chan struct{}) {
	reached := map[string]int64{} // read first: a cursor behind it later has been set back
	for key, f := range active {
		reached[key] = f.reached()
	}
	groups, changed := p.cfg.Mesh.Groups()
	here := map[string]bool{}
	for _, g := range groups {
		here[g.Key] = true
		f := active[g.Key]
		if f == nil {
			active[g.Key] = p.start(ctx, g, ended)
		} else if f.group.Topic != g.Topic || g.Next < reached[g.Key] {
			f.cancel()
		}
	}
	for key, f := range active {
		if !here[key] {
			f.cancel()
		}
	}
	return len(groups), changed
}

func (p *Pump) start(ctx context.Context, g engine.Group, ended chan<- *follower) *follower {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{pump: p, group: g, cancel: cancel, looked: g.Next, next: g.Next}
	go func() {
		f.follow(ctx)
		cancel()
		ended <- f
	}()
	return f
}

// A follower feeds one group.
type follower struct {
	pump   *Pump
	group  engine.Group
	cancel context.CancelFunc

	// Of the follower's goroutine: how far it has looked, events or not, and what was
	// gone and is not said yet; the end of a topic that is lost is said up to lost.
	looked, lost int64
	missing      []runtime.Gap

	mu   sync.Mutex
	next int64 // offset of the next event to hand over
}

func (f *follower) reached() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

func (f *follower) reach(next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = next
}

const (
	// batch is how many events are fetched and handed over at once.
	batch = 100
	// retryPause is the first pause after a failure, or before a topic that is missing
	// is looked for; it doubles up to maxPause.
	retryPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// follow hands events over until the group is gone or ctx ends. An event is
// fetched again until it is delivered; the core counts each offset once.
func (f *follower) follow(ctx context.Context) {
	pause := retryPause
	for ctx.Err() == nil {
		err := f.step(ctx)
		if err == nil {
			pause = retryPause
			continue
		}
		if ctx.Err() != nil || codeOf(err) == runtime.CodeNotFound {
			return
		}
		began := time.Now()
		if codeOf(err) == runtime.CodeTopicMissing { // that one waits for a create, silently
			f.pump.missing.wait(ctx, f.group.Topic)
		} else {
			f.pump.cfg.Logger.Warn("events wait", "topic", f.group.Topic, "offset", f.next, "error", err)
		}
		if !sleep(ctx, pause-time.Since(began)) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// step waits for events and hands one batch over. What is missing is said with the
// first event behind it.
func (f *follower) step(ctx context.Context) error {
	got, err := f.pump.cfg.Topics.Fetch(ctx, f.group.Topic, f.looked, batch)
	missing := f.missing
	if got.Missing != nil && got.Missing.End && got.Missing.To > f.lost {
		f.lost = got.Missing.To
		f.pump.cfg.Logger.Error("events are lost: the topic has lost its end, though it was confirmed",
			"topic", f.group.Topic, "from", got.Missing.From, "to", got.Missing.To-1)
		f.pump.cfg.Mesh.EventsLost(got.Missing.To - got.Missing.From)
	}
	if got.Missing != nil {
		missing = append(missing, *got.Missing)
	}
	if err != nil || len(got.Events) == 0 {
		f.looked, f.missing = max(f.looked, got.Next), missing
		return err
	}
	next, err := f.pump.cfg.Mesh.Deliver(ctx, f.group.Key, f.next, got.Events)
	if err != nil {
		return err
	}
	f.say(missing)
	f.missing = nil
	f.looked = next
	if next > got.Events[len(got.Events)-1].Offset {
		f.looked = max(next, got.Next)
	}
	f.reach(next)
	return nil
}

// say reports events that the topic no longer held when they were to be fetched. Other
// offsets without an event were none: marks and aborted records of transactions, and
// what compaction has replaced. So may be the one at which this follower began.
func (f *follower) say(missing []runtime.Gap) {
	for _, gap := range missing {
		if gap.End {
			continue // was said
		}
		text := "events are missing: the topic no longer holds them"
		if gap.From == f.group.Next {
			text = "events may be missing: the topic no longer holds what came next"
		}
		f.pump.cfg.Logger.Warn(text, "topic", f.group.Topic, "from", gap.From, "to", gap.To-1)
	}
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func codeOf(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

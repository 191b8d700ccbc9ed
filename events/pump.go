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

// Config wires a Pump.
type Config struct {
	Mesh   *engine.Mesh
	Topics runtime.Topics
	Logger *slog.Logger
}

// A Pump feeds each consumer group from its topic, in order.
type Pump struct{ cfg Config }

// New makes a Pump.
func New(cfg Config) (*Pump, error) {
	if cfg.Mesh == nil || cfg.Topics == nil || cfg.Logger == nil {
		return nil, errors.New("events: Mesh, Topics and Logger are needed")
	}
	return &Pump{cfg}, nil
}

// batch is how many events are fetched and handed over at once.
const batch = 100

// Run follows the list of groups until ctx ends; it returns when every group's
// goroutine has ended.
func (p *Pump) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	type pumped struct {
		topic  string
		cancel context.CancelFunc
	}
	active := map[string]pumped{}
	for {
		groups, changed := p.cfg.Mesh.Groups()
		seen := map[string]bool{}
		for _, g := range groups {
			seen[g.Key] = true
			if _, ok := active[g.Key]; ok {
				continue
			}
			gctx, cancel := context.WithCancel(ctx)
			active[g.Key] = pumped{g.Topic, cancel}
			running.Go(func() { p.follow(gctx, g) })
		}
		for key, g := range active {
			if !seen[key] {
				g.cancel()
				delete(active, key)
			}
		}
		select {
		case <-ctx.Done():
			for _, g := range active {
				g.cancel()
			}
			return nil
		case <-changed:
		}
	}
}

// retryPause is the first pause after a failed fetch or delivery; it doubles up to maxPause.
const (
	retryPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// follow hands the events of one group over until the group is gone. An event
// is fetched again until it is delivered, and the core counts each offset once.
func (p *Pump) follow(ctx context.Context, g engine.Group) {
	next, pause := g.Next, retryPause
	for ctx.Err() == nil {
		events, err := p.cfg.Topics.Fetch(ctx, g.Topic, next, batch)
		if err == nil && len(events) > 0 {
			var at int64
			at, err = p.cfg.Mesh.Deliver(ctx, g.Key, events)
			if err == nil {
				next, pause = at, retryPause
				continue
			}
		}
		if ctx.Err() != nil || codeOf(err) == runtime.CodeNotFound {
			return
		}
		if err != nil && codeOf(err) != runtime.CodeTopicMissing {
			p.cfg.Logger.Warn("events wait", "topic", g.Topic, "offset", next, "error", err)
		}
		if err != nil {
			// A topic that is missing may be created; any other trouble may end.
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			pause = min(2*pause, maxPause)
		}
	}
}

func codeOf(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

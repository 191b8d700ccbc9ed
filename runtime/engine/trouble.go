package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A trouble is something that fails again and again: the log hears of it when it
// begins, each minute while it lasts, and when it is over. (over tells whether
// there was any.)
type trouble struct {
	mu    sync.Mutex
	since time.Time
	said  time.Time
}

const troubleAgain = time.Minute

func (t *trouble) say(log *slog.Logger, what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	if now.Sub(t.said) < troubleAgain {
		return
	}
	t.said = now
	log.Warn(what, "error", err, "for", now.Sub(t.since).Round(time.Second))
}

func (t *trouble) over(log *slog.Logger, what string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return false
	}
	log.Info(what, "after", time.Since(t.since).Round(time.Second))
	t.since, t.said = time.Time{}, time.Time{}
	return true
}

// Turns are taken by those who have waited for long for what is absent: one of
// them tries each second, and when it is back all do.
type turns struct {
	token chan struct{}
	back  *signal
}

// A patience is the pause between tries at what may be absent: it grows to a
// second, and after a while who waits takes turns with the others.
type patience struct {
	turns *turns
	pause time.Duration
	long  time.Time // from then on
}

func (m *Mesh) patience() patience {
	lease := 2 * time.Second
	if m.cfg.Shared != nil {
		lease = m.cfg.Shared.Lease
	}
	return patience{turns: &m.turns, long: time.Now().Add(time.Duration(runtime.WritePatience(true, int64(lease))) + 2*lease)} // whoever can has given up by then
}

func (p *patience) wait(ctx context.Context) bool {
	p.pause = min(max(2*p.pause, 50*time.Millisecond), time.Second)
	if time.Now().Before(p.long) {
		return pauseFor(ctx, p.pause)
	}
	back := p.turns.back.wait()
	select {
	case p.turns.token <- struct{}{}:
		defer func() { <-p.turns.token }()
		return pauseFor(ctx, time.Second)
	case <-back:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

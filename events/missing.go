package events

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/karmesh/kar/runtime"
)

// missing looks for all topics that do not exist, in one question, so that the
// cost does not grow with those who wait for them.
type missing struct {
	topics runtime.Topics
	logger *slog.Logger
	added  chan struct{} // holds one element when somebody waits

	mu    sync.Mutex
	waits map[string]*absence
}

// An absence is a topic for which somebody waits.
type absence struct {
	over    chan struct{} // closed when there is one
	waiting int
}

func newMissing(topics runtime.Topics, logger *slog.Logger) *missing {
	return &missing{topics: topics, logger: logger, added: make(chan struct{}, 1), waits: map[string]*absence{}}
}

// wait returns when there is such a topic, or ctx has ended.
func (m *missing) wait(ctx context.Context, topic string) {
	m.mu.Lock()
	a := m.waits[topic]
	if a == nil {
		a = &absence{over: make(chan struct{})}
		m.waits[topic] = a
	}
	a.waiting++
	m.mu.Unlock()
	select {
	case m.added <- struct{}{}:
	default:
	}
	select {
	case <-a.over:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.waiting--; a.waiting == 0 && m.waits[topic] == a {
		delete(m.waits, topic)
	}
}

func (m *missing) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.waits))
}

func (m *missing) found(topics []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, topic := range topics {
		if a := m.waits[topic]; a != nil {
			close(a.over)
			delete(m.waits, topic)
		}
	}
}

// look goes on until ctx ends: soon when somebody begins to wait, then once in maxPause.
func (m *missing) look(ctx context.Context) {
	pause := retryPause
	for {
		names := m.names()
		if len(names) == 0 {
			pause = retryPause
			select {
			case <-m.added:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, maxPause)
		found, err := m.topics.Existing(ctx, names)
		if err != nil && ctx.Err() == nil {
			m.logger.Warn("topics that do not exist cannot be looked for", "topics", len(names), "error", err)
		}
		m.found(found)
	}
}

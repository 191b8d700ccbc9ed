package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A silence is when the store gives no answer. All who talk to it note what they
// find, so that only the first has waited; then one question at a time is asked until
// there is an answer. A store that refuses something does answer.
type silence struct {
	mu      sync.Mutex
	found   chan struct{} // closed while the store is silent
	begun   bool
	trouble trouble // of take-overs
}

const (
	// answerPatience bounds the question where the store is, when a partition is taken.
	answerPatience = time.Second
	// silencePause is how long a silent store is not asked again.
	silencePause = 250 * time.Millisecond
)

var errSilent = errors.New("the store gives no answer")

func (s *silence) hear() (found <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found
}

// begin is true for the first who finds it.
func (s *silence) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return false
	}
	s.begun = true
	close(s.found)
	return true
}

func (s *silence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.found = false, make(chan struct{})
}

// isSilence tells an error that is no answer.
func isSilence(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || is(err, runtime.CodeRedisUnreachable)
}

// heardStore notes the error of somebody who talked to the store about a partition.
// Only a question about the same partition proves that it answers again: another may
// be elsewhere in a cluster.
func (m *Mesh) heardStore(ctx context.Context, p uint16, err error) {
	if m.cfg.Shared == nil || ctx.Err() != nil || !isSilence(err) || !m.silence.begin() {
		return
	}
	m.watches.Go(func() {
		for {
			ask, cancel := context.WithTimeout(m.life, storePatience)
			_, err := m.cfg.Store.Applied(ask, p)
			cancel()
			if !isSilence(err) {
				break
			}
			if !pauseFor(m.life, silencePause) {
				return
			}
		}
		m.silence.end()
		m.silence.trouble.over(m.cfg.Logger, "the store answers again")
	})
}

// whereStore asks up to where the store holds a partition. That comes before the log
// is read: an owner that lives may write on, and a store that is asked later could be
// further than the end that was read.
func (m *Mesh) whereStore(ctx context.Context, p uint16) (uint64, error) {
	if m.cfg.Shared == nil {
		return m.cfg.Store.Applied(ctx, p)
	}
	type answer struct {
		applied uint64
		err     error
	}
	found := m.silence.hear()
	ask, cancel := context.WithTimeout(ctx, answerPatience)
	answered := make(chan answer, 1)
	select {
	case <-found:
	default:
		m.watches.Go(func() {
			applied, err := m.cfg.Store.Applied(ask, p)
			m.heardStore(ctx, p, err)
			answered <- answer{applied, err}
		})
	}
	defer cancel()
	a := answer{err: errSilent}
	select {
	case <-found:
	case a = <-answered:
	case <-ask.Done():
	}
	if a.err != nil && ctx.Err() == nil {
		m.silence.trouble.say(m.cfg.Logger, "the store does not say what it holds; partitions are recovered from the log alone", a.err)
	}
	return a.applied, a.err
}

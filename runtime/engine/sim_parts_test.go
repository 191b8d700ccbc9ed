package engine_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/karmesh/kar/runtime"
)

// The log, the store and the list of members as one gateway of a world has them.

// simLog lets appends take their time, be refused, and end without an answer: landed
// or not, now or later.
type simLog struct {
	*memHandle
	n *simNode
	p uint16
}

func (l *simLog) reached() error {
	if err := l.n.pass(); err != nil {
		return err
	}
	if l.n.w.out(fmt.Sprint("log ", l.p)) {
		return errors.New("no broker answers")
	}
	return nil
}

func (l *simLog) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	w := l.n.w
	wait := w.dice.between(0, 12*time.Millisecond)
	if w.out(fmt.Sprint("slow ", l.p)) {
		wait = w.dice.between(500*time.Millisecond, 2500*time.Millisecond)
	}
	size := 0
	for _, b := range batch {
		size += len(b)
	}
	if w.out(fmt.Sprint("full ", l.p)) && size > 2000 && !l.doubtful() {
		return 0, 0, runtime.Errorf(runtime.CodeDiskFull, "no room for %d bytes", size)
	}
	calm := w.isCalm()
	return l.tried(batch, func() error {
		if err := l.reached(); err != nil {
			return &runtime.UnknownError{Cause: err}
		}
		if !sleepFor(ctx, wait) || l.n.dead() {
			return &runtime.UnknownError{Cause: errDead}
		}
		switch {
		case calm:
		case w.dice.oneIn(200):
			return &runtime.UnknownError{Cause: errLate}
		case w.dice.oneIn(200):
			return &runtime.UnknownError{Cause: errors.New("no answer")}
		}
		return nil
	}, func() error {
		sleepFor(ctx, wait/4)
		if err := l.reached(); err != nil {
			return &runtime.UnknownError{Cause: err}
		}
		if !calm && w.dice.oneIn(150) {
			return &runtime.UnknownError{Cause: errors.New("the answer was lost")}
		}
		return nil
	}, w.dice.between(0, 3*time.Second))
}

func (l *simLog) Read(ctx context.Context, from uint64, visit func(uint64, []byte) error) error {
	if err := l.reached(); err != nil {
		return err
	}
	sleepFor(ctx, l.n.w.dice.between(0, 20*time.Millisecond))
	if err := l.reached(); err != nil {
		return err
	}
	return l.memHandle.Read(ctx, from, visit)
}

func (l *simLog) Bounds(ctx context.Context) (start, end uint64, err error) {
	if err := l.reached(); err != nil {
		return 0, 0, err
	}
	return l.memHandle.Bounds(ctx)
}

func (l *simLog) Trim(ctx context.Context, before uint64) error {
	if err := l.reached(); err != nil {
		return err
	}
	return l.memHandle.Trim(ctx, before)
}

// simStore is slow, and out of reach at times; what it has done may go unanswered.
type simStore struct {
	*memStore
	n *simNode
}

func (s *simStore) reached() error {
	if err := s.n.pass(); err != nil {
		return err
	}
	if s.n.w.out("store") {
		return errors.New("the store does not answer")
	}
	return nil
}

func (s *simStore) way(ctx context.Context) error {
	if err := s.reached(); err != nil {
		return err
	}
	if !sleepFor(ctx, s.n.w.dice.between(0, 8*time.Millisecond)) {
		return ctx.Err()
	}
	return s.reached()
}

func (s *simStore) Apply(ctx context.Context, p uint16, from, to uint64, writes []runtime.Mutation) (uint64, error) {
	if err := s.way(ctx); err != nil {
		return 0, err
	}
	at, err := s.memStore.Apply(ctx, p, from, to, writes)
	if err == nil && !s.n.w.isCalm() && s.n.w.dice.oneIn(100) {
		return 0, errors.New("the answer was lost")
	}
	return at, err
}

func (s *simStore) Applied(ctx context.Context, p uint16) (uint64, error) {
	if err := s.way(ctx); err != nil {
		return 0, err
	}
	return s.memStore.Applied(ctx, p)
}

func (s *simStore) Sync(ctx context.Context, p uint16) (uint64, error) { return s.Applied(ctx, p) }

func (s *simStore) Read(ctx context.Context, p uint16, fn func(runtime.Snapshot) error) error {
	if err := s.way(ctx); err != nil {
		return err
	}
	return s.memStore.Read(ctx, p, fn)
}

// simMembers is kept by the store.
type simMembers struct {
	*memMembers
	n *simNode
}

func (l *simMembers) Announce(ctx context.Context, m runtime.Member, ttl time.Duration) ([]runtime.Member, error) {
	s := simStore{l.s, l.n}
	if err := s.way(ctx); err != nil {
		return nil, err
	}
	all, err := l.memMembers.Announce(ctx, m, ttl)
	if e := s.way(ctx); e != nil {
		return nil, e
	}
	return all, err
}

func (l *simMembers) Leave(ctx context.Context, node string) error {
	s := simStore{l.s, l.n}
	if err := s.way(ctx); err != nil {
		return err
	}
	return l.memMembers.Leave(ctx, node)
}

package redis

import (
	"context"
	"errors"
	"slices"
	"sort"

	"github.com/karmesh/kar/runtime"
)

// Redis has no snapshots. Every answer says which version of the partition it
// is of. The first one fixes the version of the snapshot; a later one of
// another version is turned back with what Apply saw being replaced, when this
// process did the writing and kept it. Else fn starts again.

// errMoved ends a run of fn; Read starts another.
var errMoved = errors.New("the view moved under its reader")

const (
	mostRuns  = 20      // of fn
	undoKeys  = 100_000 // kept for readers of a partition
	pageBytes = 1 << 20 // of a scan, about
	pageItems = 2000
)

// A version of a partition: step is not empty within a large Apply.
type version struct {
	applied uint64
	step    string
}

// An undo is what an Apply has replaced: members by escaped key, "" for absent.
type undo struct {
	from, to uint64
	before   map[string]string
}

func newUndo(from, to uint64, pairs []any) *undo {
	u := &undo{from, to, make(map[string]string, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok1 := pairs[i].(string)
		member, ok2 := pairs[i+1].(string)
		if _, have := u.before[key]; ok1 && ok2 && !have {
			u.before[key] = member
		}
	}
	return u
}

// dropLongUndo bounds memory; a reader that needed it starts again.
func (p *partition) dropLongUndo() {
	n := 0
	for _, u := range p.undo {
		n += len(u.before)
	}
	if n > undoKeys {
		p.undo = nil
	}
}

func (r *Redis) Read(ctx context.Context, number uint16, fn func(runtime.Snapshot) error) error {
	p, err := r.partition(number)
	if err != nil {
		return err
	}
	for run := range mostRuns {
		s := &snapshot{r: r, p: p, ctx: ctx}
		if run > 0 {
			// From here on no write of this process goes unseen.
			if err := s.register(); err != nil {
				return err
			}
		}
		err := fn(s)
		s.release()
		switch {
		case s.fault == nil:
			return err
		case !errors.Is(s.fault, errMoved):
			return s.fault
		}
	}
	return r.fault("read the store", errMoved)
}

type snapshot struct {
	r          *Redis
	p          *partition
	ctx        context.Context
	at         *version // nil before the first answer
	registered bool
	fault      error // the first one; everything after it fails too
}

// register has what writers replace be kept. It waits for a write under way.
func (s *snapshot) register() error {
	ctx, cancel := s.r.bounded(s.ctx)
	defer cancel()
	if err := s.p.lock(ctx); err != nil {
		return s.r.fault("wait for an earlier change", err)
	}
	defer s.p.unlock()
	s.enter()
	return nil
}

func (s *snapshot) enter() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.readers++
	s.registered = true
}

func (s *snapshot) release() {
	if !s.registered {
		return
	}
	s.registered = false
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.readers--; s.p.readers == 0 {
		s.p.undo = nil
	}
}

// Applied asks when nothing was read before.
func (s *snapshot) Applied() uint64 {
	if s.at == nil {
		_, _, _ = s.ask(func(ctx context.Context) ([]any, error) { // it keeps the error
			return s.r.list(s.r.scripts.applied.Run(ctx, s.r.client, s.p.keys, s.r.identity))
		})
	}
	if s.at == nil {
		return 0
	}
	return s.at.applied
}

func (s *snapshot) Get(key []byte) ([]byte, error) {
	k := string(escape(key))
	list, changed, err := s.ask(func(ctx context.Context) ([]any, error) {
		return s.r.list(s.r.scripts.get.Run(ctx, s.r.client, s.p.keys, s.r.identity, k))
	})
	if err != nil {
		return nil, err
	}
	member := ""
	if len(list) > 2 {
		member, _ = list[2].(string)
	}
	for _, u := range changed {
		if before, ok := u.before[k]; ok {
			member = before
			break
		}
	}
	if member == "" {
		return nil, nil
	}
	_, value, ok := splitMember(member)
	if !ok {
		return nil, s.fail(errAnswer)
	}
	return []byte(value), nil
}

func (s *snapshot) Scan(prefix []byte, visit func(key, value []byte) bool) error {
	low := escape(prefix)
	lower, upper := prefixRange(low)
	for {
		list, changed, err := s.ask(func(ctx context.Context) ([]any, error) {
			return s.r.list(s.r.scripts.scan.Run(ctx, s.r.client, s.p.keys, s.r.identity, lower, upper, pageItems, pageBytes))
		})
		if err != nil {
			return err
		}
		if len(list) < 3 {
			return s.fail(errAnswer)
		}
		last, _ := list[2].(string)
		members, err := texts(list[3:])
		if err != nil {
			return s.fail(err)
		}
		members = turnBack(members, changed, lower, upper, last)
		for _, m := range members {
			key, value, ok := splitMember(m)
			if !ok {
				return s.fail(errAnswer)
			}
			if !visit(unescape([]byte(key)), []byte(value)) {
				return nil
			}
		}
		if last == "" {
			return nil
		}
		lower = "(" + last
	}
}

func texts(list []any) ([]string, error) {
	members := make([]string, 0, len(list))
	for _, v := range list {
		m, ok := v.(string)
		if !ok {
			return nil, errAnswer
		}
		members = append(members, m)
	}
	return members, nil
}

// turnBack makes a page of the present one of the past. Bounds are those of the
// scan, last is the last member that the server looked at, "" for all.
func turnBack(members []string, changed []*undo, lower, upper, last string) []string {
	if len(changed) == 0 {
		return members
	}
	past := map[string]string{} // by key; the oldest change knows
	for _, u := range changed {
		for key, member := range u.before {
			if _, ok := past[key]; !ok {
				past[key] = member
			}
		}
	}
	members = slices.DeleteFunc(members, func(m string) bool {
		key, _, _ := splitMember(m)
		_, ok := past[key]
		return ok
	})
	for _, m := range past {
		if m != "" && within(m, lower, upper) && (last == "" || m <= last) {
			members = append(members, m)
		}
	}
	sort.Strings(members)
	return members
}

// within compares as ZRANGEBYLEX does, for bounds that prefixRange and Scan make.
func within(m, lower, upper string) bool {
	if m < lower[1:] || lower[0] == '(' && m == lower[1:] {
		return false
	}
	return upper == "+" || m < upper[1:]
}

// ask runs a script and returns what has changed since the version of the snapshot.
func (s *snapshot) ask(run func(context.Context) ([]any, error)) ([]any, []*undo, error) {
	if s.fault != nil {
		return nil, nil, s.fault
	}
	ctx, cancel := s.r.bounded(s.ctx)
	defer cancel()
	list, err := run(ctx)
	if err != nil {
		return nil, nil, s.fail(err)
	}
	applied, err := position(list[0])
	step, ok := list[1].(string)
	if err != nil || !ok {
		return nil, nil, s.fail(errAnswer)
	}
	now := version{applied, step}
	if s.at == nil {
		s.at = &now
		if !s.registered {
			s.enter()
		}
		return list, nil, nil
	}
	if now == *s.at {
		return list, nil, nil
	}
	changed, err := s.since(ctx, now)
	if err != nil {
		return nil, nil, s.fail(err)
	}
	return list, changed, nil
}

// since is what led from the snapshot's version to now.
func (s *snapshot) since(ctx context.Context, now version) ([]*undo, error) {
	// The answer to the write that made it may still be under way.
	if err := s.p.lock(ctx); err != nil {
		return nil, err
	}
	s.p.unlock()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if now.step != "" || s.at.step != "" {
		return nil, errMoved
	}
	at := s.at.applied
	for i, u := range s.p.undo {
		if u.from != at {
			continue
		}
		var changed []*undo
		for _, u := range s.p.undo[i:] {
			if u.from != at {
				return nil, errMoved
			}
			changed = append(changed, u)
			if at = u.to; at == now.applied {
				return changed, nil
			}
		}
	}
	return nil, errMoved
}

// fail keeps the first fault: fn may not have passed it on.
func (s *snapshot) fail(err error) error {
	if errors.Is(err, errMoved) {
		s.fault = errMoved
	} else {
		s.fault = s.r.fault("read the store", err)
	}
	return s.fault
}

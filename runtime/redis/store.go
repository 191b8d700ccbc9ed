package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"

	"github.com/karmesh/kar/runtime"
)

// What one script may do, so that Redis serves others in between.
const (
	stepWrites = 1000    // mutations
	stepBytes  = 1 << 20 // of keys and values; one mutation may be larger
	stepRemove = 5000    // entries under prefixes
)

// A partition is what this process remembers about one partition.
type partition struct {
	number uint16
	keys   []string
	// turn is held during each script that writes, so that who holds it knows
	// what every write of this process has done.
	turn chan struct{}

	mu      sync.Mutex
	readers int     // snapshots that need to know what was there before
	undo    []*undo // for them, oldest first, without a gap
	safe    safety
}

func (r *Redis) partition(n uint16) (*partition, error) {
	if int(n) >= len(r.parts) {
		return nil, runtime.Errorf(runtime.CodeInternal, "there is no partition %d", n)
	}
	return r.parts[n], nil
}

func (p *partition) lock(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *partition) unlock() { <-p.turn }

// Apply is one script, unless there is too much for one: then all but the last
// move a step that only the writer who began can continue, and the last moves
// the position. Steps write what the log says, so they are harmless: a reader
// who sees some of them sees the future of the position that it is told, which
// the overlay of the engine knows better, and whoever goes on from that
// position writes the same again.
func (r *Redis) Apply(ctx context.Context, number uint16, from, to uint64, writes []runtime.Mutation) (uint64, error) {
	p, err := r.partition(number)
	if err != nil {
		return 0, err
	}
	if fits(writes) {
		a, err := r.applyOnce(ctx, p, from, to, "", "", writes)
		if err != nil {
			return 0, err
		}
		if a.wrote != tooMuch {
			return a.applied, nil
		}
	}
	return r.applySteps(ctx, p, from, to, writes)
}

func (r *Redis) applySteps(ctx context.Context, p *partition, from, to uint64, writes []runtime.Mutation) (uint64, error) {
	var token [8]byte
	_, _ = rand.Read(token[:]) // never fails
	name := hex.EncodeToString(token[:]) + ":"
	n := 0
	step := func(part []runtime.Mutation, last bool) (applyAnswer, error) {
		prior, after := name+strconv.Itoa(n), name+strconv.Itoa(n+1)
		if last {
			after = ""
		}
		n++
		return r.applyOnce(ctx, p, from, to, prior, after, part)
	}
	for len(writes) > 0 {
		part := writes[:stepLength(writes)]
		a, err := step(part, false)
		if err != nil || a.wrote != wrote {
			return a.applied, err
		}
		if !a.more {
			writes = writes[len(part):]
		}
	}
	a, err := step(nil, true)
	return a.applied, err
}

func fits(writes []runtime.Mutation) bool {
	n := 0
	for _, m := range writes {
		n += len(m.Key) + len(m.Value)
	}
	return len(writes) <= stepWrites && (n <= stepBytes || len(writes) == 1)
}

// stepLength is how many mutations go into the next step: a prefix goes alone.
func stepLength(writes []runtime.Mutation) int {
	bytes := 0
	for i, m := range writes {
		bytes += len(m.Key) + len(m.Value)
		if i > 0 && (m.Prefix || writes[i-1].Prefix || i == stepWrites || bytes > stepBytes) {
			return i
		}
	}
	return len(writes)
}

const (
	wrote   = 1
	tooMuch = 2
)

type applyAnswer struct {
	applied uint64
	wrote   int64
	more    bool
}

// applyOnce runs the script; prior and after are "" for all in one.
func (r *Redis) applyOnce(ctx context.Context, p *partition, from, to uint64, prior, after string, writes []runtime.Mutation) (applyAnswer, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if err := p.lock(ctx); err != nil {
		return applyAnswer{}, r.fault("wait for an earlier change", err)
	}
	defer p.unlock()
	stepping := prior != "" || after != ""
	p.mu.Lock()
	keep := p.readers > 0 && !stepping
	p.mu.Unlock()
	args := make([]any, 0, 7+3*len(writes))
	args = append(args, r.identity, from, to, prior, after, flag(keep), stepRemove)
	for _, m := range writes {
		args = appendMutation(args, m)
	}
	list, err := r.list(r.scripts.apply.Run(ctx, r.client, p.keys, args...))
	if err == nil {
		var a applyAnswer
		if a, err = readApply(list); err == nil {
			p.noteApplied(from, to, a, keep, list, r.now())
			return a, nil
		}
	}
	p.mu.Lock()
	p.undo = nil // a gap: nobody knows what this did
	p.mu.Unlock()
	return applyAnswer{}, r.fault("write to the store", err)
}

func appendMutation(args []any, m runtime.Mutation) []any {
	key := escape(m.Key)
	switch {
	case m.Prefix:
		lower, upper := prefixRange(key)
		return append(args, "p", lower, upper)
	case m.Value == nil:
		return append(args, "d", key, "")
	case m.Expires != 0:
		return append(args, m.Expires, key, sealValue(m.Value, m.Expires))
	}
	return append(args, "s", key, sealValue(m.Value, 0))
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func readApply(list []any) (a applyAnswer, err error) {
	if len(list) < 3 {
		return a, errAnswer
	}
	wrote, ok1 := list[1].(int64)
	more, ok2 := list[2].(int64)
	a.wrote, a.more = wrote, more == 1
	if !ok1 || !ok2 {
		return a, errAnswer
	}
	a.applied, err = position(list[0])
	return a, err
}

// position reads a decimal.
func position(v any) (uint64, error) {
	s, ok := v.(string)
	if !ok {
		return 0, errAnswer
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the position in the store is %q: %w", s, err)
	}
	return n, nil
}

// noteApplied keeps what readers and Sync want to know about a write.
func (p *partition) noteApplied(from, to uint64, a applyAnswer, kept bool, list []any, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case a.wrote == wrote && a.applied == to:
		p.safe.moved(from, to, now)
	case a.wrote == 0:
		p.safe.seen(a.applied, now)
	}
	switch {
	case a.wrote != wrote:
		return
	case !kept || p.readers == 0:
		p.undo = nil
	default:
		p.undo = append(p.undo, newUndo(from, to, list[3:]))
		p.dropLongUndo()
	}
}

func (r *Redis) Applied(ctx context.Context, number uint16) (uint64, error) {
	p, err := r.partition(number)
	if err != nil {
		return 0, err
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	list, err := r.list(r.scripts.applied.Run(ctx, r.client, p.keys, r.identity))
	if err != nil {
		return 0, r.fault("read the store", err)
	}
	applied, err := position(list[0])
	if err != nil {
		return 0, r.fault("read the store", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.safe.seen(applied, r.now())
	return applied, nil
}

package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble makes a writer wait, with its locks held, while too much waits for a flush
// or a compaction, and on a full disk that is for ever. Here it never does: who
// writes asks admit before.
const (
	// pressMemory is how much may wait in memory for a flush, and pressTables how
	// many tables one read of the uppermost level may have to look into.
	pressMemory = 4 * viewMemTable
	pressTables = 12
	// pressFaulty is the number of tables in memory with which nothing more is taken
	// while they cannot be flushed.
	pressFaulty = 3
	// pressLook is how much is written between two looks at these.
	pressLook = viewMemTable / 4
)

// never is a threshold of Pebble's that is not reached.
const never = math.MaxInt32

// pressure is what Pebble tells of its background work.
type pressure struct {
	// flushFault is the error of the last flush, nil after a good one, and
	// compactFault that of the last compaction.
	flushFault   atomic.Pointer[error]
	compactFault atomic.Pointer[error]
	begun        atomic.Uint64 // flushes
	failed       atomic.Uint64 // the number of the last flush that failed
	spoiled      atomic.Uint64 // compactions that failed
	written      atomic.Int64  // bytes since the last look

	mu   sync.Mutex
	news chan struct{} // closed at the next end of a flush or compaction; nil while nobody waits
}

// changed is closed at the next end of a flush or of a compaction.
func (p *pressure) changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.news == nil {
		p.news = make(chan struct{})
	}
	return p.news
}

func (p *pressure) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// errEmpty is what Pebble calls the end of a flush that had nothing to write.
const errEmpty = "pebble: empty table"

func (p *pressure) flushEnded(err error) {
	if err != nil && err.Error() != errEmpty {
		p.flushFault.Store(&err)
		p.failed.Store(p.begun.Load())
	} else {
		p.flushFault.Store(nil)
	}
	p.written.Store(pressLook)
	p.tell()
}

func (p *pressure) compactionEnded(err error) {
	switch {
	case err == nil:
		p.compactFault.Store(nil)
	case !errors.Is(err, pebble.ErrCancelledCompaction):
		p.compactFault.Store(&err)
		p.spoiled.Add(1)
	}
	p.tell()
}

// admit waits until the view has room for a write of about so many bytes; an error
// when it has none and cannot make any.
func (v *view) admit(ctx context.Context, bytes int) error {
	for v.written.Add(int64(bytes)) >= pressLook || v.flushFault.Load() != nil {
		changed := v.changed()
		m := v.Metrics()
		flush, compact := v.flushFault.Load(), v.compactFault.Load()
		crowded, deep := m.MemTable.Size >= pressMemory, m.Levels[0].Sublevels >= pressTables && v.depth() >= pressTables
		switch {
		case flush != nil && (crowded || m.MemTable.Count >= pressFaulty):
			return fault("write the view", *flush)
		case deep && compact != nil:
			return fault("write the view", *compact)
		case !crowded && !deep:
			v.written.Store(int64(bytes))
			return nil
		}
		bytes = 0 // counted
		v.written.Store(pressLook)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// depth is how many tables of the uppermost level have one key in their range, at
// most. Pebble compacts for this number, and it may be less than that of sublevels.
func (v *view) depth() int {
	levels, err := v.SSTables()
	if err != nil {
		return 0
	}
	type edge struct {
		key []byte
		end bool // behind the key
	}
	var edges []edge
	for _, table := range levels[0] {
		edges = append(edges, edge{key: table.Smallest.UserKey}, edge{table.Largest.UserKey, true})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := bytes.Compare(a.key, b.key); c != 0 || a.end == b.end {
			return c
		} else if a.end {
			return 1
		}
		return -1
	})
	deepest, at := 0, 0
	for _, e := range edges {
		if e.end {
			at--
		} else {
			at++
		}
		deepest = max(deepest, at)
	}
	return deepest
}

// errFlushStuck: Pebble repeats a flush that fails, and never gives up.
var errFlushStuck = errors.New("the view cannot be written")

// flush waits until everything is in files; errFlushStuck, with its cause, when an
// attempt fails that began after the call. However often that happens, no more than
// one more table waits in memory.
func (v *view) flush(ctx context.Context) error {
	v.flushing.Lock()
	defer v.flushing.Unlock()
	before := v.begun.Load()
	if v.unflushed != nil {
		if err := v.flushed(ctx, v.unflushed, before); err != nil {
			return err
		}
	}
	var err error
	if v.unflushed, err = v.AsyncFlush(); err != nil {
		return err
	}
	return v.flushed(ctx, v.unflushed, before)
}

func (v *view) flushed(ctx context.Context, done <-chan struct{}, before uint64) error {
	for {
		changed := v.changed()
		select {
		case <-done:
			return nil
		default:
		}
		if cause := v.flushFault.Load(); cause != nil && v.failed.Load() > before {
			return fmt.Errorf("%w: %w", errFlushStuck, *cause)
		}
		select {
		case <-done:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compact puts what is in the range into the lowest levels; an error when any flush or
// compaction fails meanwhile, since Pebble would go on with those it deems urgent.
func (v *view) compact(ctx context.Context, from, to []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	flushes, compactions := v.failed.Load(), v.spoiled.Load()
	done := make(chan error, 1)
	go func() { done <- v.Compact(ctx, from, to, false) }()
	for {
		changed := v.changed()
		if v.failed.Load() > flushes || v.spoiled.Load() > compactions {
			cancel(errFlushStuck)
		}
		select {
		case err := <-done:
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		case <-changed:
		}
	}
}

// drop removes what is in the range from the tables, without writing any: what is
// wholly in it goes, and of the others the list of files says which part is left.
// Nothing in memory may be in the range.
func (v *view) drop(ctx context.Context, from, to []byte) error {
	return v.Excise(ctx, pebble.KeyRange{Start: from, End: to})
}

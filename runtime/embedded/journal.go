package embedded

import (
	"context"
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/karmesh/kar/runtime"
)

// A journal is an append-only sequence of records in segment files, with its
// witness. It is a [runtime.Log].
type journal struct {
	fs       vfs.FS
	dir      string
	name     string // prefix of its files
	segBytes int64
	failed   func(error) // called when a sync failed

	mu       sync.Mutex
	segments []segment // oldest first; the last one is written
	file     vfs.File  // the last segment
	zeroed   int64     // up to where the last segment is filled with zeros
	witness  *witness
	bytes    int64 // sum of the segments' sizes
	buf      []byte
	broken   error // set when nobody knows what the disk holds
	shut     bool
	leftover []string // files that are no longer, or never were, part of it
}

var _ runtime.Log = (*journal)(nil)

// zeroAhead is how much is filled with zeros at a time: a sync of bytes inside
// the file is a third cheaper than one that also has to make the file longer.
const zeroAhead = 256 << 10

// keepBuffer is the largest append buffer that is kept for the next one.
const keepBuffer = 1 << 20

func (j *journal) last() *segment { return &j.segments[len(j.segments)-1] }

func (j *journal) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return 0, 0, err
	}
	if len(batch) == 0 {
		return j.last().end, j.last().end, nil
	}
	if j.last().size >= j.segBytes {
		if err := j.rotate(); err != nil {
			return 0, 0, err
		}
	}
	s := j.last()
	var sum uint32
	j.buf, sum = s.appendFrame(j.buf[:0], s.end, s.sum, batch)
	n := int64(len(j.buf))
	if n > maxFrame {
		return 0, 0, runtime.Errorf(runtime.CodeTooLarge, "a batch of %d bytes does not fit into one append", n)
	}
	if err := j.write(s, n); err != nil {
		return 0, 0, err
	}
	if cap(j.buf) > keepBuffer {
		j.buf = nil
	}
	first = s.end
	s.end, s.size, s.sum = first+uint64(len(batch)), s.size+n, sum
	j.bytes += n
	if err := j.witness.write(j.acknowledged()); err != nil {
		return 0, 0, j.fail("note the end of the log", err)
	}
	return first, s.end, nil
}

// write puts j.buf behind the last frame, durably.
func (j *journal) write(s *segment, n int64) error {
	if need := s.size + n; need > j.zeroed {
		upTo := (need/zeroAhead + 1) * zeroAhead
		if _, err := j.file.WriteAt(make([]byte, upTo-j.zeroed), j.zeroed); err != nil {
			return fault("extend "+s.path, err) // zeros only: nothing was appended
		}
		j.zeroed = upTo
	}
	if _, err := j.file.WriteAt(j.buf, s.size); err != nil {
		clear(j.buf)
		if _, zerr := j.file.WriteAt(j.buf, s.size); zerr != nil {
			return j.fail("write "+s.path, err)
		}
		return fault("write "+s.path, err)
	}
	if err := j.file.SyncData(); err != nil {
		return j.fail("sync "+s.path, err)
	}
	return nil
}

// fail ends all use of the journal: what the disk holds is only known after a restart.
func (j *journal) fail(doing string, err error) error {
	j.broken = &runtime.UnknownError{Cause: fault(doing, err)}
	j.failed(j.broken)
	return j.broken
}

func (j *journal) usable() error {
	if j.shut {
		return closed()
	}
	return j.broken
}

// acknowledged is what the witness may say now.
func (j *journal) acknowledged() witnessState {
	s := j.last()
	return witnessState{start: j.segments[0].base, base: s.base, end: s.end, chain: s.sum, applied: j.witness.state.applied}
}

// rotate starts a new segment. A failure leaves the old one in use.
func (j *journal) rotate() error {
	old := j.last()
	s, err := createSegment(j.fs, j.dir, j.name, old.end, old.sum)
	var f vfs.File
	if err == nil {
		f, err = j.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		_ = j.fs.Remove(s.path)
		return fault("start "+s.path, err)
	}
	_ = j.file.Close() // everything in it is synced
	j.segments = append(j.segments, s)
	j.file, j.zeroed = f, segmentHeader
	j.bytes += s.size
	if err := j.witness.sync(j.acknowledged()); err != nil {
		return j.fail("sync the witness of "+s.path, err)
	}
	return nil
}

// Trim removes the files that hold only records before offset.
func (j *journal) Trim(_ context.Context, before uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	n := 0
	for n < len(j.segments)-1 && j.segments[n].end <= before {
		n++
	}
	if n == 0 {
		return nil
	}
	gone := j.segments[:n]
	j.segments = append([]segment(nil), j.segments[n:]...)
	if err := j.witness.sync(j.acknowledged()); err != nil {
		return j.fail("sync the witness of "+j.name, err)
	}
	var failure error
	for _, s := range gone {
		j.bytes -= s.size
		failure = errors.Join(failure, j.fs.Remove(s.path))
	}
	return fault("trim "+j.name, failure)
}

// promise notes that the view holds everything before applied durably.
func (j *journal) promise(applied uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return err
	}
	if applied <= j.witness.state.applied {
		return nil
	}
	s := j.witness.state
	s.applied = applied
	return fault("note the position of the view", j.witness.write(s))
}

func (j *journal) promised() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.witness.state.applied
}

// demands is what a view that is rebuilt from this journal alone must hold.
func (j *journal) demands() uint64 {
	return max(j.promised(), j.segments[0].base)
}

func (j *journal) Bounds(context.Context) (start, end uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[0].base, j.last().end, j.usable()
}

func (j *journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes
}

// Close is for the engine, which is done with its partition; the files stay
// open until the folder is closed.
func (j *journal) Close() error { return nil }

func (j *journal) shutdown() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.shut {
		return nil
	}
	j.shut = true
	if j.file == nil { // never became writable
		return fault("close "+j.name, j.witness.file.Close())
	}
	err := errors.Join(j.file.Close(), j.witness.file.Sync(), j.witness.file.Close())
	return fault("close "+j.name, err)
}

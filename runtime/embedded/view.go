package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Keys of the view. Partition numbers, topic numbers, offsets and seconds are big endian.
//
//	a partition           position up to which the log has been applied
//	s partition key       an entry of the store: expiry (0 or 8 bytes, see sealValue), value
//	x second partition key  an entry that expires then
//	j                     position up to which the journal of the topics has been applied
//	t name                a topic: number, exists, first offset, next offset
//	e number offset       an event
const (
	appliedKey = 'a'
	entryKey   = 's'
	expiryKey  = 'x'
	journalKey = 'j'
	topicKey   = 't'
	eventKey   = 'e'
)

// Sizes are chosen for a gateway that should be small when it has nothing to do.
const (
	viewMemTable = 4 << 20
	// viewCache includes the memtables: Pebble takes their size off it.
	viewCache = 16 << 20
	// viewIndex is large enough that one block of index serves a whole table:
	// one look-up less for each read.
	viewIndex = 256 << 10
)

// A view is the Pebble database, without a log of its own: what it has not
// flushed is applied again from the journals.
type view struct {
	*pebble.DB
	pressure
	later  *compactions
	warned atomic.Bool // of a fault that lasts

	flushing  sync.Mutex
	unflushed <-chan struct{} // closed when the last flush that was asked for is done; nil before the first
}

func viewOptions(fs vfs.FS, logger *slog.Logger, failed func(error)) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                viewMemTable,
		MemTableStopWritesThreshold: never,
		L0StopWritesThreshold:       never,
		CacheSize:                   viewCache,
		MaxOpenFiles:                256,
		Logger:                      viewLogger{logger: logger, failed: failed},
	}
	for i := range o.Levels {
		o.Levels[i].IndexBlockSize = viewIndex
	}
	return o
}

// openView opens the database; one that is not fresh must be there. Pebble
// tidies its folder while it opens, so see checkView first.
func openView(fs vfs.FS, dir string, fresh bool, logger *slog.Logger, failed func(error)) (*view, error) {
	later := newCompactions()
	v := &view{later: later}
	opts := viewOptions(fs, logger, failed)
	opts.FS = orderedFS{fs, func() bool { return v.flushFault.Load() != nil }}
	opts.ErrorIfNotExists = !fresh
	opts.Experimental.CompactionScheduler = later
	opts.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if v.warned.CompareAndSwap(false, true) {
				logger.Warn("the view could not be written; it is tried again until it can", "error", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			logger.Error("a file of the view is damaged", "file", info.Path, "error", info.Details)
		},
		FlushBegin: func(pebble.FlushInfo) { v.begun.Add(1) },
		FlushEnd: func(info pebble.FlushInfo) {
			v.flushEnded(info.Err)
			if v.flushFault.Load() == nil {
				v.warned.Store(false)
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			v.compactionEnded(info.Err)
			if info.Err != nil && !errors.Is(info.Err, pebble.ErrCancelledCompaction) {
				later.rest()
			}
		},
	}
	if err := v.open(dir, opts); err != nil {
		return nil, fault("open the view in "+dir, err)
	}
	later.open()
	return v, nil
}

// open takes what Pebble calls fatal as an error while nothing depends on it
// yet. Pebble then never returns: its goroutines stay behind, and with them its
// lock, until the process ends, which is what a failed start leads to.
func (v *view) open(dir string, opts *pebble.Options) error {
	logger := opts.Logger.(viewLogger)
	logger.opening = &opening{fatal: make(chan error, 1)}
	logger.opening.now.Store(true)
	opts.Logger = logger
	type answer struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("the storage library failed: %v", p)
			}
			opened <- a
		}()
		a.db, a.err = pebble.Open(dir, opts)
	}()
	var a answer
	select {
	case a = <-opened:
	case err := <-logger.opening.fatal:
		return err
	}
	logger.opening.now.Store(false)
	select {
	case err := <-logger.opening.fatal:
		return err
	default:
	}
	v.DB = a.db
	return a.err
}

// close writes nothing that anybody reads, so a full disk is no reason to complain.
func (v *view) close() error {
	if err := fault("close the view", v.Close()); !isFull(err) {
		return err
	}
	return nil
}

// An opening collects the fatal error of an Open that is under way.
type opening struct {
	now   atomic.Bool
	fatal chan error
}

// number reads an 8-byte value; absent is 0.
func number(r pebble.Reader, key []byte) (uint64, error) {
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fault("read the view", err)
	}
	defer closer.Close()
	if len(b) != 8 {
		return 0, damaged("the view", "the position under %q has %d bytes", key, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// viewLogger passes Pebble's words on; what Pebble calls fatal is a failed
// write or sync of its list of files, which ends the process.
type viewLogger struct {
	logger  *slog.Logger
	failed  func(error)
	opening *opening
}

func (l viewLogger) Infof(format string, args ...any) {}

func (l viewLogger) Errorf(format string, args ...any) {
	l.logger.Warn("view: " + fmt.Sprintf(format, args...))
}

func (l viewLogger) Fatalf(format string, args ...any) {
	err := fatalError{text: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			err.cause = cause
		}
	}
	if l.opening != nil && l.opening.now.Load() {
		select {
		case l.opening.fatal <- err:
		default:
		}
	} else {
		l.failed(fault("write the view", err))
	}
	select {} // Pebble does not expect an answer; see Options.FailedSync
}

// fatalError keeps the cause, which says whether the disk is full.
type fatalError struct {
	text  string
	cause error
}

func (e fatalError) Error() string { return e.text }
func (e fatalError) Unwrap() error { return e.cause }

// keyAfter is the smallest key behind all keys that start with prefix; nil when there is none.
func keyAfter(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return append(append([]byte(nil), prefix[:i]...), prefix[i]+1)
		}
	}
	return nil
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A Disk is one open folder. Log, Store and Topics are parts of it and end with it.
type Disk struct {
	options Options
	folder  folder
	view    *view
	logs    []*journal
	events  *journal
	store   *store
	topics  *topics
	reserve *reserve

	identity string

	here    os.FileInfo // of the logs' folder when it was opened; nil when not on a real disk
	cancel  context.CancelFunc
	sweeper sync.WaitGroup
	once    sync.Once
	closed  error
}

// Open opens the folder, or creates it when nothing is there. Its errors carry
// CodeDamaged, CodeNewerFormat, CodeForeign, CodeInUse, CodeReadOnly or
// CodeDiskFull; after any of them the folder holds what it held before.
func Open(dir string, options Options) (*Disk, error) {
	o := options.withDefaults()
	if o.Partitions < 1 || o.Partitions > 1<<15 {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "a mesh cannot have %d partitions", o.Partitions)
	}
	f, err := openFolder(o.FS, dir)
	if err != nil {
		return nil, err
	}
	d := &Disk{options: o, folder: f, reserve: newReserve(o.FS, f)}
	used, err := f.checkFormat(o)
	if err == nil && !used {
		err = d.create()
	}
	if err == nil {
		err = d.open()
	}
	if err != nil {
		_ = d.release() // the first error is the one to act on
		return nil, err
	}
	d.reserve.fill()
	d.identity = f.identity()
	// Only a folder of the operating system can be taken away from under us.
	d.here, _ = os.Stat(d.logDir())
	d.startSweeper()
	return d, nil
}

// Present is an error when the folder is no longer where it was opened: it was
// removed or replaced while open, and what is written now nobody will find.
func (d *Disk) Present() error {
	if d.here == nil {
		return nil
	}
	if now, err := os.Stat(d.logDir()); err != nil || !os.SameFile(d.here, now) {
		return runtime.Errorf(runtime.CodeDamaged, "the state folder %s was removed or replaced while it was in use", d.folder.dir)
	}
	return nil
}

func (d *Disk) logDir() string  { return d.folder.path("log") }
func (d *Disk) viewDir() string { return d.folder.path("view") }

func logName(partition int) string { return fmt.Sprintf("p%04d", partition) }

const topicsName = "topics"

// create makes the empty files, FORMAT last. What a creation that was cut
// short left behind is removed, unless it holds data.
func (d *Disk) create() error {
	fs, dir := d.options.FS, d.logDir()
	if err := d.refuseOrphans(); err != nil {
		return err
	}
	for _, leftover := range []string{dir, d.viewDir()} {
		if err := fs.RemoveAll(leftover); err != nil {
			return fault("remove "+leftover, err)
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fault("create "+dir, err)
	}
	for p := range d.options.Partitions {
		if err := createJournal(fs, dir, logName(p)); err != nil {
			return fault("create the log in "+dir, err)
		}
	}
	if err := createJournal(fs, dir, topicsName); err != nil {
		return fault("create the journal in "+dir, err)
	}
	if err := syncDir(fs, dir); err != nil {
		return fault("sync "+dir, err)
	}
	view, err := d.openView(true)
	if err != nil {
		return err
	}
	d.view = view
	return d.folder.writeFormat(d.options)
}

// Identity tells the folder from all others but its copies; "" when it does not say.
func (d *Disk) Identity() string { return d.identity }

// refuseOrphans finds logs with content in a folder without FORMAT: that file
// was lost, since it is there before anything is accepted.
func (d *Disk) refuseOrphans() error {
	names, err := d.options.FS.List(d.logDir())
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return fault("list "+d.logDir(), err)
	}
	for _, name := range names {
		path := d.options.FS.PathJoin(d.logDir(), name)
		info, err := d.options.FS.Stat(path)
		if err != nil {
			return fault("read "+path, err)
		}
		if segmentHeader < info.Size() && len(name) > 4 && name[len(name)-4:] == ".log" {
			return damaged(d.folder.path("FORMAT"), "the file is missing, yet %s holds data", path)
		}
	}
	return nil
}

func (d *Disk) openView(fresh bool) (*view, error) {
	return openView(d.options.FS, d.viewDir(), fresh, d.options.Logger, d.options.FailedSync)
}

// open looks at everything before it changes anything, so that a folder that
// is refused stays as it is.
func (d *Disk) open() error {
	o := d.options
	for p := range o.Partitions {
		j, err := openJournal(o.FS, d.logDir(), logName(p), o.SegmentBytes, o.FailedSync)
		if err != nil {
			return err
		}
		d.logs = append(d.logs, j)
	}
	var err error
	if d.events, err = openJournal(o.FS, d.logDir(), topicsName, o.SegmentBytes, o.FailedSync); err != nil {
		return err
	}
	if d.view == nil {
		if err = checkView(o.FS, d.viewDir(), o.Logger, d.positions()); err != nil {
			return err
		}
	}
	for _, j := range append([]*journal{d.events}, d.logs...) {
		if err = j.writable(); err != nil {
			return err
		}
	}
	if d.view == nil {
		if d.view, err = d.openView(false); err != nil {
			return err
		}
	}
	if d.store, err = openStore(d.view, d.logs, o.Now); err != nil {
		return err
	}
	d.topics, err = openTopics(d.view, d.events, d.reserve)
	return err
}

// positions are what the journals demand of the view.
func (d *Disk) positions() []position {
	list := []position{{key: []byte{journalKey}, of: "the topics", min: d.events.demands(), max: d.events.last().end}}
	for i, j := range d.logs {
		list = append(list, position{key: positionKey(uint16(i)), of: fmt.Sprintf("partition %d", i), min: j.promised(), max: math.MaxUint64})
	}
	return list
}

// Log is the log of one partition. Closing it does nothing; Disk.Close does.
func (d *Disk) Log(partition uint16) (runtime.Log, error) {
	if int(partition) >= len(d.logs) {
		return nil, runtime.Errorf(runtime.CodeInternal, "there is no partition %d", partition)
	}
	return d.logs[partition], nil
}

// Store is the view of the logs.
func (d *Disk) Store() runtime.Store { return d.store }

// Topics are the logs of events.
func (d *Disk) Topics() runtime.Topics { return d.topics }

// Close ends everything and releases the folder. Twice is fine.
func (d *Disk) Close() error {
	d.once.Do(func() {
		d.cancel()
		d.sweeper.Wait()
		d.topics.shutdown()
		if d.closed = d.Present(); d.closed != nil {
			// Pebble would repeat a flush into nowhere for ever. The process is
			// about to end: leave the view alone.
			d.view = nil
			_ = d.release()
			return
		}
		// What is not flushed is only slower to open the next time.
		err := d.view.flush(context.Background())
		if errors.Is(err, errFlushStuck) {
			err = nil
		}
		d.closed = errors.Join(fault("flush the view", err), d.release())
	})
	return d.closed
}

// release closes what is open.
func (d *Disk) release() error {
	var failures []error
	if d.view != nil {
		failures = append(failures, d.view.close())
	}
	for _, j := range d.logs {
		failures = append(failures, j.shutdown())
	}
	if d.events != nil {
		failures = append(failures, d.events.shutdown())
	}
	_ = d.options.FS.Remove(d.folder.path("PID"))
	failures = append(failures, fault("unlock "+d.folder.dir, d.folder.lock.Close()))
	return errors.Join(failures...)
}

// Sweeps are rare and short: expired entries are invisible anyway.
const (
	sweepEvery = time.Minute
	sweepLimit = 1000
)

func (d *Disk) startSweeper() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.sweeper.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			d.reserve.fill()
			if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
				d.options.Logger.Warn("expired entries were not removed; it is tried again", "error", err)
			}
		}
	})
}

func (d *Disk) sweep(ctx context.Context) error {
	for {
		if n, err := d.store.Sweep(ctx, sweepLimit); err != nil || n < sweepLimit {
			return err
		}
	}
}

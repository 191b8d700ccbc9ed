package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/karmesh/kar/runtime"
)

// A capped disk has no room for a table of more than so many bytes: small ones can
// come from memory, and no compaction can put them together.
type capped struct {
	vfs.FS
	most *atomic.Int64
}

func (c capped) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return &cappedFile{File: f, most: c.most}, nil
}

type cappedFile struct {
	vfs.File
	most *atomic.Int64
	size int64
}

func (f *cappedFile) Write(p []byte) (int, error) {
	if f.size += int64(len(p)); f.size > f.most.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// inTime fails the test when do does not end.
func inTime(t *testing.T, what string, do func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal(what + " never ends")
		return nil
	}
}

// inTheEnd repeats what waits for Pebble's work in the background.
func inTheEnd(t *testing.T, what string, do func() error) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if err := inTime(t, what, do); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal(what, err)
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func cappedDisk(t *testing.T, dir string) (*Disk, *atomic.Int64) {
	t.Helper()
	most := &atomic.Int64{}
	most.Store(300 << 10)
	d, err := Open(dir, Options{FS: capped{vfs.Default, most}, FailedSync: func(err error) { t.Errorf("failed sync: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return d, most
}

// TestNoRoomForCompactions: the store takes nothing more when too many tables wait
// for a compaction that has no room, nothing waits for it without end, and all goes on
// once there is room.
func TestNoRoomForCompactions(t *testing.T) {
	dir := t.TempDir()
	d, most := cappedDisk(t, dir)
	s, at := d.Store(), uint64(0)
	apply := func() error {
		return inTime(t, "Apply", func() error {
			w := []runtime.Mutation{{Key: []byte("a"), Value: []byte{1}}, {Key: fmt.Appendf(nil, "k%d", at), Value: noise(200 << 10)}, {Key: []byte("z"), Value: []byte{1}}}
			applied, err := s.Apply(context.Background(), 0, at, at+1, w)
			if err == nil {
				at = applied
			}
			return err
		})
	}
	sync := func() error {
		return inTime(t, "Sync", func() error { _, err := s.Sync(context.Background(), 0); return err })
	}
	var refused error
	for range 100 {
		if refused = apply(); refused != nil {
			break
		}
		if err := sync(); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, refused, runtime.CodeDiskFull, "")
	if at < pressTables {
		t.Errorf("only %d tables were taken", at)
	}
	most.Store(1 << 40)
	inTheEnd(t, "Apply", apply)
	if err := sync(); err != nil {
		t.Fatal(err)
	}
	most.Store(300 << 10)
	for range 100 {
		if refused = apply(); refused != nil {
			break
		}
		if err := sync(); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, refused, runtime.CodeDiskFull, "")
	if err := inTime(t, "Close", d.Close); err != nil {
		t.Fatal(err)
	}
	d, _ = cappedDisk(t, dir)
	if got, err := d.Store().Applied(t.Context(), 0); err != nil || got != at {
		t.Fatalf("applied = %d, %v; want %d", got, err, at)
	}
	if err := inTime(t, "Close", d.Close); err != nil {
		t.Fatal(err)
	}
}

// TestDeletionNeedsNoCompaction: the room of a deleted topic comes back although no
// compaction of what is there has room.
func TestDeletionNeedsNoCompaction(t *testing.T) {
	dir := t.TempDir()
	d, _ := cappedDisk(t, dir)
	defer func() {
		if err := inTime(t, "Close", d.Close); err != nil {
			t.Error(err)
		}
	}()
	topics := d.Topics()
	for round := range 3 {
		inTheEnd(t, "Create", func() error { _, err := topics.Create(context.Background(), "t"); return err })
		var refused error
		for taken := range 100 {
			refused = inTime(t, "Publish", func() error {
				_, err := topics.Publish(context.Background(), "t", runtime.Event{Body: noise(200 << 10)})
				return err
			})
			if refused != nil {
				break
			}
			if err := inTime(t, "flush", func() error { return d.view.flush(context.Background()) }); err != nil {
				t.Fatal(taken, err)
			}
		}
		wantCode(t, refused, runtime.CodeDiskFull, "")
		if err := inTime(t, "Delete", func() error { _, err := topics.Delete(context.Background(), "t"); return err }); err != nil {
			t.Fatal(round, err)
		}
		inTheEnd(t, "Delete", func() error {
			if bytes := d.view.Metrics().DiskSpaceUsage(); bytes > 1<<20 {
				return fmt.Errorf("the view takes %d bytes with nothing in it", bytes)
			}
			return nil
		})
	}
}

// TestNoRoomForTheView: nothing waits without end for a view that cannot be flushed,
// and the folder can be opened again at once, by the same process too.
func TestNoRoomForTheView(t *testing.T) {
	dir := t.TempDir()
	f := &failing{err: syscall.ENOSPC, only: func(op errorfs.Op) bool {
		return strings.Contains(op.Path, "/view/") && (strings.HasSuffix(op.Path, ".sst") || strings.HasSuffix(op.Path, ".log"))
	}}
	f.after.Store(1 << 40)
	d, err := Open(dir, Options{FS: errorfs.Wrap(vfs.Default, f)})
	if err != nil {
		t.Fatal(err)
	}
	topics := d.Topics()
	if _, err := topics.Create(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	f.after.Store(0)
	s, at := d.Store(), uint64(0)
	for range 400 {
		w := []runtime.Mutation{{Key: fmt.Appendf(nil, "%d", at), Value: noise(100 << 10)}}
		if err = inTime(t, "Apply", func() error { _, err := s.Apply(context.Background(), 0, at, at+1, w); return err }); err != nil {
			break
		}
		at++
	}
	wantCode(t, err, runtime.CodeDiskFull, "")
	for range 10 {
		wantCode(t, inTime(t, "Sync", func() error { _, err := s.Sync(context.Background(), 0); return err }), runtime.CodeDiskFull, "")
	}
	if n := d.view.Metrics().MemTable.Count; n > 6 {
		t.Errorf("%d tables wait in memory", n)
	}
	wantCode(t, inTime(t, "Publish", func() error {
		_, err := topics.Publish(context.Background(), "t", runtime.Event{Body: []byte("e")})
		return err
	}), runtime.CodeDiskFull, "")
	if err := inTime(t, "Delete", func() error { _, err := topics.Delete(context.Background(), "t"); return err }); err != nil {
		t.Error("a deletion needs no table: ", err)
	}
	if err := inTime(t, "Close", d.Close); err != nil {
		t.Fatal(err)
	}
	f.after.Store(1 << 40)
	if d, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Topics().List(t.Context()); err != nil || len(names) != 0 {
		t.Error(names, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

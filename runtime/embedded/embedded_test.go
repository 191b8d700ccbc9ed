package embedded

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest"
)

// home opens one folder again and again; opening closes the disk before.
type home struct {
	dir     string
	options Options
	disk    *Disk
	clock   atomic.Int64 // seconds that the clock is ahead
}

func newHome(t *testing.T, partitions int) *home {
	h := &home{dir: t.TempDir() + "/state"}
	h.options = Options{
		Partitions: partitions, SegmentBytes: 16 << 10, FS: vfs.Default,
		Now:        func() time.Time { return time.Now().Add(time.Duration(h.clock.Load()) * time.Second) },
		FailedSync: func(err error) { t.Errorf("failed sync: %v", err) },
	}
	return h
}

func (h *home) open(t *testing.T) *Disk {
	t.Helper()
	if h.disk != nil {
		if err := h.disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(h.dir, h.options)
	if err != nil {
		t.Fatal(err)
	}
	h.disk = d
	t.Cleanup(func() { d.Close() })
	return d
}

func (h *home) openLog(t *testing.T) runtime.Log {
	t.Helper()
	l, err := h.open(t).Log(0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogSuite(t *testing.T) {
	runtimetest.LogSuite(t, func(t *testing.T) runtimetest.LogOpener { return newHome(t, 1).openLog })
}

func TestStoreSuite(t *testing.T) {
	runtimetest.StoreSuite(t, func(t *testing.T) runtimetest.StoreSetup {
		h := newHome(t, 2)
		return runtimetest.StoreSetup{
			Open: func(t *testing.T) runtime.Store { return h.open(t).Store() },
			Wait: func(d time.Duration) { h.clock.Add(int64(d / time.Second)) },
			Now:  h.options.Now,
		}
	})
}

func TestTopicsSuite(t *testing.T) {
	runtimetest.TopicsSuite(t, func(t *testing.T) runtimetest.TopicsOpener {
		h := newHome(t, 1)
		return func(t *testing.T) runtime.Topics { return h.open(t).Topics() }
	})
}

// TestSweep: what has expired is removed from the disk too, what was written
// anew is not.
func TestSweep(t *testing.T) {
	h := newHome(t, 1)
	d := h.open(t)
	soon := h.options.Now().Unix() + 10
	var writes []runtime.Mutation
	for i := range 50 {
		writes = append(writes, runtime.Mutation{Key: []byte{byte(i)}, Value: []byte("v"), Expires: soon})
	}
	apply := func(from, to uint64, writes ...runtime.Mutation) {
		t.Helper()
		if got, err := d.Store().Apply(t.Context(), 0, from, to, writes); err != nil || got != to {
			t.Fatal(got, err)
		}
	}
	apply(0, 1, writes...)
	apply(1, 2, runtime.Mutation{Key: []byte{7}, Value: []byte("kept"), Expires: soon + 1000}, runtime.Mutation{Key: []byte{8}, Value: []byte("kept")})
	for _, want := range []int{0, 30, 20, 0} {
		if n, err := d.store.Sweep(t.Context(), 30); err != nil || n != want {
			t.Fatalf("swept %d, %v; want %d", n, err, want)
		}
		h.clock.Store(20)
	}
	entries := 0
	it, err := d.view.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if it.Key()[0] == entryKey || it.Key()[0] == expiryKey {
			entries++
		}
	}
	if err := it.Close(); err != nil || entries != 3 { // two entries and one note
		t.Fatalf("%d entries and notes are left, %v", entries, err)
	}
}

// TestTrimFreesSpace: what is trimmed is gone from the size and from the folder.
func TestTrimFreesSpace(t *testing.T) {
	h := newHome(t, 1)
	l := h.openLog(t)
	for i := range 100 {
		if _, _, err := l.Append(t.Context(), [][]byte{make([]byte, 2000)}); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := l.Trim(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	if l.Size() > 2*h.options.SegmentBytes {
		t.Errorf("size is %d after everything was trimmed", l.Size())
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "log", "p0000-*.log"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %q, %v", files, err)
	}
}

func TestPresentTellsARemovedFolder(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(filepath.Join(dir, "state"), Options{Mesh: "m", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Present(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "state"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := d.Present(); err == nil {
		t.Fatal("a folder that was moved away is still present")
	}
}

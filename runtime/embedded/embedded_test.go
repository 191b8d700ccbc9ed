package embedded

import (
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

package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/karmesh/kar/runtime"
)

func wantCode(t *testing.T, err error, code runtime.Code, words string) {
	t.Helper()
	coded := (*runtime.Error)(nil)
	if !errors.As(err, &coded) || coded.Code != code || !strings.Contains(coded.Detail, words) {
		t.Fatalf("got %v, want %s with %q", err, code, words)
	}
}

func TestSecondGateway(t *testing.T) {
	h := newHome(t, 1)
	h.open(t)
	_, err := Open(h.dir, h.options)
	wantCode(t, err, runtime.CodeInUse, fmt.Sprintf("process %d", os.Getpid()))
	if err := h.disk.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.disk.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	h.disk = nil
	h.open(t)
}

func TestForeignAndNewer(t *testing.T) {
	h := newHome(t, 2)
	h.open(t)
	h.disk.Close()
	format := filepath.Join(h.dir, "FORMAT")
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	other := h.options
	other.Mesh = "other"
	_, err = Open(h.dir, other)
	wantCode(t, err, runtime.CodeForeign, `"other"`)
	other = h.options
	other.Partitions = 3
	_, err = Open(h.dir, other)
	wantCode(t, err, runtime.CodeForeign, "with 2 partitions")
	for replaced, code := range map[string]runtime.Code{"format: 2": runtime.CodeNewerFormat, "format: x": runtime.CodeDamaged, "": runtime.CodeDamaged} {
		if err := os.WriteFile(format, []byte(strings.Replace(string(text), "format: 1", replaced, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(h.dir, h.options)
		wantCode(t, err, code, "")
	}
	if err := os.WriteFile(format, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.disk = nil
	h.open(t)
	if info, err := os.Stat(h.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder mode %v, %v", info.Mode(), err)
	}
}

// A disk that fails every write-like operation whose number is reached.
type failing struct {
	err   error
	after atomic.Int64 // operations that still succeed
	once  bool         // only one operation fails
	only  func(errorfs.Op) bool
}

func (f *failing) String() string { return "failing" }
func (f *failing) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || f.only != nil && !f.only(op) || f.after.Add(-1) >= 0 {
		return nil
	}
	if f.once {
		f.after.Store(1 << 40)
	}
	return &os.PathError{Op: "write", Path: op.Path, Err: f.err}
}

// TestOpenFails fails each operation of a creation and of a reopen in turn.
func TestOpenFails(t *testing.T) {
	for err, code := range map[error]runtime.Code{syscall.ENOSPC: runtime.CodeDiskFull, syscall.EROFS: runtime.CodeReadOnly, syscall.EACCES: runtime.CodeReadOnly} {
		t.Run(err.Error(), func(t *testing.T) {
			for _, used := range []bool{false, true} {
				refused := 0
				for n := range int64(200) {
					mem := vfs.NewCrashableMem()
					if used {
						d, err := Open("state", Options{FS: mem})
						if err != nil {
							t.Fatal(err)
						}
						l, _ := d.Log(0)
						if _, _, err := l.Append(t.Context(), [][]byte{[]byte("a")}); err != nil {
							t.Fatal(err)
						}
						if err := d.Close(); err != nil {
							t.Fatal(err)
						}
					}
					f := &failing{err: err, only: func(op errorfs.Op) bool {
						// A full or read-only disk says so at writes; a failing
						// sync of Pebble's is another matter: TestFailedSync.
						return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpMkdirAll
					}}
					f.after.Store(n)
					d, oerr := Open("state", Options{FS: errorfs.Wrap(mem, f), FailedSync: func(err error) { panic(err) }})
					if oerr == nil {
						f.after.Store(1 << 40)
						d.Close()
						break
					}
					wantCode(t, oerr, code, "")
					refused++
					// A refused start ends the process, and with it Pebble's lock.
					left := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
					d, oerr = Open("state", Options{FS: left})
					if oerr != nil {
						t.Fatalf("after a refusal at operation %d: %v", n, oerr)
					}
					l, _ := d.Log(0)
					if _, end, _ := l.Bounds(t.Context()); (end == 1) != used {
						t.Fatalf("after a refusal at operation %d the log ends at %d", n, end)
					}
					d.Close()
				}
				if refused < 5 {
					t.Fatalf("only %d refusals", refused)
				}
			}
		})
	}
}

// TestFullDiskWhileRunning: an append that finds no room was certainly not
// made, and once there is room again all goes on.
func TestFullDiskWhileRunning(t *testing.T) {
	f := &failing{err: syscall.ENOSPC, once: true}
	f.after.Store(1 << 40)
	mem := vfs.NewMem()
	o := Options{FS: errorfs.Wrap(mem, f), SegmentBytes: 4 << 10, FailedSync: func(err error) { t.Errorf("failed sync: %v", err) }}
	f.only = func(op errorfs.Op) bool {
		return strings.Contains(op.Path, "p0000-") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileWriteAt)
	}
	d, err := Open("state", o)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := d.Log(0)
	full := 0
	for i := 0; i < 400; {
		if i%3 == 0 {
			f.after.Store(int64(i % 2))
		}
		first, _, err := l.Append(t.Context(), [][]byte{record(i)})
		f.after.Store(1 << 40)
		if err == nil {
			if first != uint64(i) {
				t.Fatalf("append %d got offset %d", i, first)
			}
			i++
			continue
		}
		full++
		wantCode(t, err, runtime.CodeDiskFull, "p0000-")
		if _, end, _ := l.Bounds(t.Context()); end != uint64(i) {
			t.Fatalf("a refused append moved the end to %d", end)
		}
		if first, _, err = l.Append(t.Context(), [][]byte{record(i)}); err != nil || first != uint64(i) {
			t.Fatal(first, err)
		}
		i++
	}
	if full < 10 {
		t.Fatalf("the disk was full only %d times", full)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Open("state", Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, _ = d.Log(0)
	at := 0
	if err := l.Read(t.Context(), 0, func(_ uint64, r []byte) error {
		if string(r) != string(record(at)) {
			return fmt.Errorf("record %d is another", at)
		}
		at++
		return nil
	}); err != nil || at != 400 {
		t.Fatal(at, err)
	}
}

// TestFailedSync: the callback is told, the outcome is unknown, nothing more is taken.
func TestFailedSync(t *testing.T) {
	f := &failing{err: syscall.EIO, only: func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpFileSyncData && strings.Contains(op.Path, "p0000-")
	}}
	f.after.Store(1 << 40)
	var told error
	d, err := Open("state", Options{FS: errorfs.Wrap(vfs.NewMem(), f), FailedSync: func(err error) { told = err }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, _ := d.Log(0)
	f.after.Store(0)
	for range 2 {
		_, _, err = l.Append(t.Context(), [][]byte{[]byte("a")})
		unknown := (*runtime.UnknownError)(nil)
		if !errors.As(err, &unknown) || told == nil {
			t.Fatalf("append = %v, callback got %v", err, told)
		}
		f.after.Store(1 << 40)
	}
}

// TestFullDiskUnderTheView: the view cannot be flushed; nothing ends, and once
// there is room again all goes on.
func TestFullDiskUnderTheView(t *testing.T) {
	f := &failing{err: syscall.ENOSPC, only: func(op errorfs.Op) bool {
		return strings.HasSuffix(op.Path, ".sst") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite)
	}}
	f.after.Store(1 << 40)
	mem := vfs.NewMem()
	d, err := Open("state", Options{FS: errorfs.Wrap(mem, f), FailedSync: func(err error) { t.Errorf("failed sync: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	f.after.Store(0)
	s, refused := d.Store(), 0
	at := uint64(0)
	for i := range 400 { // 40 MB, more than the memory tables hold
		w := []runtime.Mutation{{Key: fmt.Appendf(nil, "%d", i), Value: make([]byte, 100<<10)}}
		applied, err := s.Apply(t.Context(), 0, at, at+1, w)
		if err != nil {
			wantCode(t, err, runtime.CodeDiskFull, "")
			refused++
			f.after.Store(1 << 40)
			continue
		}
		at = applied
	}
	if refused == 0 {
		t.Error("the store took everything without a disk")
	}
	if _, err := s.Sync(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = Open("state", Options{FS: mem}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := d.Store().Applied(t.Context(), 0); err != nil || got != at {
		t.Fatalf("applied = %d, %v; want %d", got, err, at)
	}
}

// TestCloseOnAFullDisk: what the view cannot take is no reason to stay.
func TestCloseOnAFullDisk(t *testing.T) {
	f := &failing{err: syscall.ENOSPC, only: func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".sst") }}
	f.after.Store(1 << 40)
	d, err := Open("state", Options{FS: errorfs.Wrap(vfs.NewMem(), f)})
	if err != nil {
		t.Fatal(err)
	}
	w := []runtime.Mutation{{Key: []byte("k"), Value: []byte("v")}}
	if _, err := d.Store().Apply(t.Context(), 0, 0, 1, w); err != nil {
		t.Fatal(err)
	}
	f.after.Store(0)
	defer f.after.Store(1 << 40) // lets the flush end that was left alone
	closed := make(chan error, 1)
	go func() { closed <- d.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for space on the disk")
	}
}

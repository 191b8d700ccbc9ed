package embedded

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/karmesh/kar/runtime"
)

// viewToCompact is a view with more tables than Pebble leaves as they are.
func viewToCompact(t *testing.T, mem vfs.FS, tables int) {
	t.Helper()
	o := viewOptions(mem, slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
	o.DisableAutomaticCompactions = true
	db, err := pebble.Open("view", o)
	if err != nil {
		t.Fatal(err)
	}
	for table := range tables {
		for key := range 20 {
			if err := db.Set(fmt.Appendf(nil, "%d", key), make([]byte, 1000+table), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskWhileOpeningTheView: nothing of Pebble's runs when its opening fails,
// whatever there would be to do.
func TestFullDiskWhileOpeningTheView(t *testing.T) {
	whole := vfs.NewCrashableMem()
	viewToCompact(t, whole, 12)
	refused := 0
	for n := range int64(200) {
		mem := whole.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		f := &failing{err: syscall.ENOSPC, only: func(op errorfs.Op) bool {
			return !strings.HasSuffix(op.Path, ".sst") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite)
		}}
		f.after.Store(n)
		fs := errorfs.Wrap(mem, f)
		v, err := openView(fs, "view", false, slog.New(slog.DiscardHandler), func(error) {})
		if err == nil {
			f.after.Store(1 << 40)
			_ = v.Close()
			break
		}
		wantCode(t, err, runtime.CodeDiskFull, "")
		refused++
	}
	if refused < 2 {
		t.Fatalf("only %d refusals", refused)
	}
}

// TestCompactionsBeginOnceOpen: what waited for the opening is done after it.
func TestCompactionsBeginOnceOpen(t *testing.T) {
	mem := vfs.NewMem()
	viewToCompact(t, mem, 12)
	v, err := openView(mem, "view", false, slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for deadline := time.Now().Add(20 * time.Second); v.Metrics().Levels[0].TablesCount > 4; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d tables are left as they were", v.Metrics().Levels[0].TablesCount)
		}
	}
}

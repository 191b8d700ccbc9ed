package embedded

import (
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a folder. The zero value opens a mesh named "local" with one partition.
type Options struct {
	Mesh       string // "" means "local"; a folder of another mesh is refused
	Partitions int    // 0 means 1; a folder with another count is refused
	Logger     *slog.Logger
	// FailedSync is called when the disk did not take what it was given and
	// nobody can know what it holds: the process must end, since only a fresh
	// start reads what is there. It must not return outside tests. nil logs and
	// exits with code 74.
	FailedSync func(error)
	// Now is the clock for expiry; nil means time.Now.
	Now func() time.Time
	// FS is where the folder is; nil means the disk. Tests put a memory file
	// system here that forgets what was not synced.
	FS vfs.FS
	// SegmentBytes is the size at which a log starts a new file; 0 means 8 MiB.
	SegmentBytes int64
}

func (o Options) withDefaults() Options {
	if o.Mesh == "" {
		o.Mesh = "local"
	}
	if o.Partitions == 0 {
		o.Partitions = 1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FailedSync == nil {
		logger := o.Logger
		o.FailedSync = func(err error) {
			logger.Error("the disk failed; ending, a restart recovers everything acknowledged", "error", err)
			os.Exit(74)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 8 << 20
	}
	return o
}

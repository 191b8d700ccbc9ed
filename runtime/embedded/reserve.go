package embedded

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A reserve is a file that holds room on the disk: deletions need some before they
// make any, and get it from there when the disk is full. Where the file system does
// not give room to a file in advance, or has too little, there is none.
type reserve struct {
	fs        vfs.FS
	dir, path string

	mu   sync.Mutex
	held bool
}

const (
	// reserveBytes is what the view needs to write all that it has in memory, and a
	// new file of the journal of topics.
	reserveBytes = 24 << 20
	// reserveShare is the part of the free room that it takes at most, as a divisor.
	reserveShare = 3
	reserveLeast = 1 << 20
)

func newReserve(fs vfs.FS, f folder) *reserve {
	r := &reserve{fs: fs, dir: f.dir, path: f.path("RESERVE")}
	_, err := fs.Stat(r.path)
	r.held = err == nil
	return r
}

// fill takes room when there is plenty.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		return
	}
	usage, err := r.fs.GetDiskUsage(r.dir)
	size := min(usage.AvailBytes/reserveShare, reserveBytes)
	if err != nil || size < reserveLeast {
		return
	}
	file, err := r.fs.Create(r.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return
	}
	err = errors.Join(file.Preallocate(0, int64(size)), file.Close())
	if r.held = err == nil; !r.held {
		_ = r.fs.Remove(r.path)
	}
}

// release gives the room back; true when there was some.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held {
		return false
	}
	r.held = false
	return r.fs.Remove(r.path) == nil
}

package embedded

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/karmesh/kar/runtime"
)

// A reserve is a file that holds room on the disk: deletions need some before they
// make any, and get it from there when the disk is full. From then on no events are
// taken until the room is there again. Where the file system does not give room to a
// file in advance, or has too little at the start, there is none.
type reserve struct {
	fs        vfs.FS
	dir, path string

	mu    sync.Mutex
	held  int64 // bytes at most
	lent  int64 // bytes that were held when it was given to deletions, 0 when it is held or there is none
	inUse bool  // by deletions
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
	if _, err := fs.Stat(r.path); err == nil {
		r.held = reserveBytes // at most
	}
	return r
}

// fill takes room when there is plenty, or again what was lent.
func (r *reserve) fill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take()
}

// take is fill; r.mu is held.
func (r *reserve) take() {
	if r.held > 0 || r.inUse {
		return
	}
	usage, err := r.fs.GetDiskUsage(r.dir)
	if err != nil {
		return
	}
	free := int64(min(usage.AvailBytes, 1<<40))
	size := max(min(free/reserveShare, reserveBytes), min(r.lent, free-reserveLeast))
	if size < reserveLeast {
		return
	}
	file, err := r.fs.Create(r.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return
	}
	if err = errors.Join(file.Preallocate(0, size), file.Close()); err != nil {
		_ = r.fs.Remove(r.path)
		return
	}
	r.held, r.lent = size, 0
}

// release gives the room to deletions; true when there was some.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == 0 || r.fs.Remove(r.path) != nil {
		return false
	}
	r.held, r.lent = 0, r.held
	return true
}

// use notes that deletions are at work, and used that they have ended.
func (r *reserve) use() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inUse = true
}

func (r *reserve) used() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inUse = false
}

// spare is an error while deletions have the room.
func (r *reserve) spare() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lent == 0 {
		return nil
	}
	if r.take(); r.lent == 0 {
		return nil
	}
	return runtime.Errorf(runtime.CodeDiskFull, "the disk was full, and what is left of it is for what deletions of topics have to write")
}

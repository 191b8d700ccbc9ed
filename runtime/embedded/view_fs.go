package embedded

import (
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An orderedFS makes names durable in the order in which Pebble relies on
// them. Pebble names its current list of files by creating a marker file and
// removing the one before, with one sync of the directory at the end; on a
// file system that keeps such changes in any order, a power loss could leave a
// marker without its list, or no marker.
type orderedFS struct {
	vfs.FS
	faulty func() bool // the last flush failed
}

// flushPause is the time between two attempts to flush to a disk that is full:
// Pebble tries again at once, for ever.
const flushPause = 100 * time.Millisecond

// listRoom is taken for Pebble's list of files when it is begun: a full disk that does
// not take a line of it ends the process. A line has some hundred bytes.
const listRoom = 256 << 10

func (o orderedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") && o.faulty() {
		time.Sleep(flushPause)
	}
	if err := o.before(name); err != nil {
		return nil, err
	}
	f, err := o.FS.Create(name, category)
	if err == nil && strings.HasPrefix(o.PathBase(name), "MANIFEST-") {
		_ = f.Preallocate(0, listRoom) // where it can be had
	}
	return f, err
}

func (o orderedFS) Remove(name string) error {
	if err := o.before(name); err != nil {
		return err
	}
	return o.FS.Remove(name)
}

// before syncs the directory ahead of a change to a marker.
func (o orderedFS) before(name string) error {
	if !strings.HasPrefix(o.PathBase(name), "marker.") {
		return nil
	}
	return syncDir(o.FS, o.PathDir(name))
}

// Unwrap is part of vfs.FS: Pebble looks for the disk below.
func (o orderedFS) Unwrap() vfs.FS { return o.FS }

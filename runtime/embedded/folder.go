package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/karmesh/kar/runtime"
)

// formatVersion of the folder; raised when an older kar could not read it.
const formatVersion = 1

// A folder is the locked directory with its FORMAT file.
type folder struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
}

func (f folder) path(name ...string) string {
	return f.fs.PathJoin(append([]string{f.dir}, name...)...)
}

// openFolder creates the directory when absent and locks it.
func openFolder(disk vfs.FS, dir string) (folder, error) {
	f := folder{fs: disk, dir: dir}
	if err := makeDir(disk, dir); err != nil {
		return f, fault("create "+dir, err)
	}
	lock, err := disk.Lock(f.path("LOCK"))
	if err != nil {
		return f, f.lockFault(err)
	}
	f.lock = lock
	if err := f.writeFile("PID", []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		lock.Close()
		return f, fault("write "+f.path("PID"), err)
	}
	return f, nil
}

// makeDir creates the directory and what is missing above it, durably: each new
// name is synced in the directory that holds it.
func makeDir(disk vfs.FS, dir string) error {
	_, err := disk.Stat(dir)
	if err == nil || !isAbsent(err) {
		return err
	}
	parent := disk.PathDir(dir)
	if parent != dir && parent != "." {
		if err := makeDir(disk, parent); err != nil {
			return err
		}
	}
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(disk, parent)
}

// format is what the FORMAT file says; found is false when there is none.
func (f folder) format() (version int, mesh string, partitions int, found bool, err error) {
	path := f.path("FORMAT")
	b, err := f.readFile("FORMAT")
	if isAbsent(err) {
		return 0, "", 0, false, nil
	}
	if err != nil {
		return 0, "", 0, false, fault("read "+path, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		fields[name] = value
	}
	if version, err = strconv.Atoi(fields["format"]); err != nil || version < 1 {
		return 0, "", 0, true, damaged(path, "it has no line `format: NUMBER`")
	}
	if version > formatVersion {
		return version, "", 0, true, nil
	}
	mesh, merr := strconv.Unquote(fields["mesh"])
	partitions, perr := strconv.Atoi(fields["partitions"])
	if merr != nil || perr != nil {
		return 0, "", 0, true, damaged(path, "its lines `mesh` and `partitions` cannot be read")
	}
	return version, mesh, partitions, true, nil
}

// checkFormat tells whether the folder has been used; it refuses one of
// another mesh or of a newer kar.
func (f folder) checkFormat(o Options) (used bool, err error) {
	version, mesh, partitions, used, err := f.format()
	switch {
	case err != nil || !used:
		return used, err
	case version > formatVersion:
		return used, runtime.Errorf(runtime.CodeNewerFormat, "%s has format %d; this kar reads formats up to %d", f.dir, version, formatVersion)
	case mesh != o.Mesh || partitions != o.Partitions:
		return used, runtime.Errorf(runtime.CodeForeign, "%s belongs to mesh %q with %d partitions, not to %q with %d",
			f.dir, mesh, partitions, o.Mesh, o.Partitions)
	}
	return used, nil
}

// identity is the line that tells this folder from all others, "" in one of a kar
// that wrote none. A copy has the same.
func (f folder) identity() string {
	b, err := f.readFile("FORMAT")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "identity: "); ok {
			return id
		}
	}
	return ""
}

// writeFormat marks the folder as whole; it is the last step of its creation.
func (f folder) writeFormat(o Options) error {
	text := fmt.Sprintf("state of a KAR mesh\nformat: %d\nmesh: %q\npartitions: %d\nidentity: %s\n", formatVersion, o.Mesh, o.Partitions, rand.Text())
	tmp := f.path("FORMAT.tmp")
	err := f.writeFile("FORMAT.tmp", []byte(text))
	if err == nil {
		err = f.fs.Rename(tmp, f.path("FORMAT"))
	}
	if err == nil {
		err = syncDir(f.fs, f.dir)
	}
	return fault("write "+f.path("FORMAT"), err)
}

func (f folder) writeFile(name string, content []byte) error {
	file, err := f.fs.Create(f.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = file.Write(content); err == nil && name != "PID" {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

func (f folder) readFile(name string) ([]byte, error) {
	file, err := f.fs.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// lockFault tells a lock that somebody holds from one that cannot be taken.
// The lock itself fails with a bare number, creating its file with a path.
func (f folder) lockFault(err error) error {
	path := (*fs.PathError)(nil)
	held := errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && !errors.As(err, &path)
	if !held && !strings.Contains(err.Error(), "held by current process") {
		return fault("lock "+f.path("LOCK"), err)
	}
	holder := "another process"
	if pid, err := f.readFile("PID"); err == nil && len(pid) > 1 {
		holder = "process " + strings.TrimSpace(string(pid))
	}
	return runtime.Errorf(runtime.CodeInUse, "%s is in use by %s", f.dir, holder)
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Package background finds, starts and watches over this user's gateway: one
// process per state folder, started when a command needs it and none answers.
package background

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unicode/utf8"

	"github.com/karmesh/kar/runtime"
)

// socketLimit is the longest path that fits in the address of a Unix socket on
// Linux and macOS (108 and 104 bytes with the final zero).
const socketLimit = 103

// A Place is where a user's gateway lives on disk.
type Place struct {
	Dir    string // state folder, 0700
	Socket string // where a gateway started now listens
}

// Locate finds the state folder, $KAR_STATE_DIR, else $XDG_STATE_HOME/kar, else
// ~/.local/state/kar, and the socket that belongs to it. It creates nothing.
func Locate(getenv func(string) string) (Place, error) {
	dir := getenv("KAR_STATE_DIR")
	if dir == "" {
		if base := getenv("XDG_STATE_HOME"); base != "" {
			dir = filepath.Join(base, "kar")
		} else if home := getenv("HOME"); home != "" {
			dir = filepath.Join(home, ".local", "state", "kar")
		} else {
			return Place{}, runtime.Errorf(runtime.CodeBadConfig, "neither KAR_STATE_DIR, XDG_STATE_HOME nor HOME is set")
		}
	}
	return At(dir, getenv)
}

// At is the place of a given state folder.
func At(dir string, getenv func(string) string) (Place, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Place{}, runtime.Errorf(runtime.CodeBadConfig, "the state folder %q: %v", dir, err)
	}
	if !utf8.ValidString(dir) {
		// The note about the gateway is JSON, which would name another folder.
		return Place{}, runtime.Errorf(runtime.CodeBadConfig, "the path of the state folder %q is not UTF-8", dir)
	}
	sum := sha256.Sum256([]byte(dir))
	tag := hex.EncodeToString(sum[:6])
	socket := filepath.Join(dir, "gateway.sock")
	if run := getenv("XDG_RUNTIME_DIR"); run != "" && ownFolder(run) == nil {
		// Two state folders may share one runtime folder, so the name tells them apart.
		socket = filepath.Join(run, "kar", tag+".sock")
	}
	if len(socket) > socketLimit {
		socket = filepath.Join("/tmp", "kar-"+strconv.Itoa(os.Getuid())+"-"+tag, "gateway.sock")
	}
	return Place{Dir: dir, Socket: socket}, nil
}

// Log is the background gateway's log file; the one before it ends in .1.
func (p Place) Log() string { return filepath.Join(p.Dir, "gateway.log") }

// Data is the folder of log, store and topics.
func (p Place) Data() string { return filepath.Join(p.Dir, "data") }

func (p Place) lockFile() string { return filepath.Join(p.Dir, "gateway.lock") }
func (p Place) noteFile() string { return filepath.Join(p.Dir, "gateway.json") }

// Prepare makes the folders, readable by this user only. A folder of the socket that is
// there already is left as it is: /tmp, for one, is for all. The error is a
// CodeReadOnly or CodeDiskFull that names the folder.
func (p Place) Prepare() error {
	for _, dir := range []string{p.Dir, filepath.Dir(p.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return folderError(dir, err)
		}
		if err := ownFolder(dir); err != nil {
			return err
		}
	}
	if err := os.Chmod(p.Dir, 0o700); err != nil {
		return folderError(p.Dir, err)
	}
	// Whether a file can be made is the only answer that counts: mode bits lie
	// for root and for read-only mounts.
	f, err := os.OpenFile(p.lockFile(), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return folderError(p.Dir, err)
	}
	return f.Close()
}

// Spare is where the gateway listens when the folder of its socket has gone: a socket
// that depends on nothing but the state folder.
func (p Place) Spare() string {
	spare, err := At(p.Dir, func(string) string { return "" })
	if err != nil {
		return p.Socket
	}
	return spare.Socket
}

// MakeFolder makes the folder of a socket again. The one that it is in is left to
// those whose it is.
func MakeFolder(dir string) error {
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
	case errors.Is(err, fs.ErrExist):
		return ownFolder(dir)
	default:
		return folderError(dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask
		return folderError(dir, err)
	}
	return nil
}

// ownFolder refuses a folder that belongs to somebody else (or is a link, in
// /tmp an invitation to trouble).
func ownFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return folderError(dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Getuid() {
		return runtime.Errorf(runtime.CodeReadOnly, "%s is not a folder of this user", dir)
	}
	return nil
}

func folderError(dir string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return runtime.Errorf(runtime.CodeDiskFull, "there is no space left for %s", dir)
	}
	return runtime.Errorf(runtime.CodeReadOnly, "the folder %s cannot be used: %v", dir, err)
}

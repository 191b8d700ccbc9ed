package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/runtime"
)

// A socketDoor is where this user's commands and components come in. The file of a
// socket may go while the gateway lives: $XDG_RUNTIME_DIR is emptied when the user
// logs out, and other programs clean what they take for left over. So the gateway
// looks after it, and says in its note where it listens.
type socketDoor struct {
	place   background.Place
	started time.Time
	version string
	log     *slog.Logger
	serve   func(net.Listener)

	mu sync.Mutex
	// home is at the place's socket. Spare is in use once home cannot be had, and
	// stays then: somebody may know no other.
	home, spare *socketFile
	said        string // the last trouble
}

// open listens for the first time. The lock of the state folder is ours, so a file
// in our place belongs to a dead gateway, or to one of another folder.
func (d *socketDoor) open() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.home, err = d.listen(d.place.Socket, true); err != nil {
		return err
	}
	d.serve(d.home)
	return nil
}

// look listens anew when the socket is not ours any more, and keeps the note.
func (d *socketDoor) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.home != nil && !d.home.there() {
		d.home.retire()
		d.home = nil
	}
	if d.home == nil {
		var err error
		if d.home, err = d.again(d.place.Socket); err == nil {
			d.log.Warn("the socket of this gateway had gone; it listens again", "socket", d.home.path)
			d.said = ""
		} else {
			d.say("the socket of this gateway has gone and cannot be made again", err)
			if errors.Is(err, errReplaced) {
				return
			}
		}
	}
	if d.spare != nil && !d.spare.there() {
		d.spare.retire()
		d.spare = nil
	}
	if path := d.place.Spare(); d.home == nil && d.spare == nil && path != d.place.Socket {
		var err error
		if d.spare, err = d.again(path); err == nil {
			d.log.Warn("the gateway listens in another place meanwhile", "socket", d.spare.path)
		} else {
			d.say("nor can it listen in another place", err)
		}
	}
	if err := d.note(); err != nil {
		d.say("the note about this gateway cannot be written", err)
	}
}

func (d *socketDoor) again(path string) (*socketFile, error) {
	if err := background.MakeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := d.listen(path, false)
	if err == nil {
		d.serve(f)
	}
	return f, err
}

// say does not repeat itself: it would be once a second.
func (d *socketDoor) say(what string, err error) {
	if text := what + err.Error(); text != d.said {
		d.said = text
		d.log.Warn(what, "error", err)
	}
}

// note writes where this gateway listens unless it is written.
func (d *socketDoor) note() error {
	f := d.home
	if f == nil {
		f = d.spare
	}
	if n := d.place.ReadNote(); f == nil || n.PID == os.Getpid() && n.Socket == f.path {
		return nil
	}
	return d.place.WriteNote(background.Note{
		PID: os.Getpid(), Version: d.version, Socket: f.path, Started: d.started.UTC().Format(time.RFC3339),
	})
}

// addresses are those at which it listens now.
func (d *socketDoor) addresses() (list []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range []*socketFile{d.home, d.spare} {
		if f != nil {
			list = append(list, "unix://"+f.path)
		}
	}
	return list
}

// A socketFile is a listener and the file that leads to it.
type socketFile struct {
	*net.UnixListener
	path    string
	info    os.FileInfo
	retired atomic.Bool
}

// aliveLimit is how long somebody who listens in our place may take to say who it is.
const aliveLimit = time.Second

// errReplaced: a gateway of the same folder has taken the place, as one of a shared
// mesh does when this one was stopped. It is the one to be found.
var errReplaced = errors.New("another gateway of this folder listens there")

// listen takes the place of a dead gateway, and never that of a living one: two that
// take it from each other would never end. First is for a gateway that starts, which
// may take it from one that does not answer, or that is of the same folder.
func (d *socketDoor) listen(path string, first bool) (*socketFile, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, runtime.Errorf(runtime.CodeReadOnly, "cannot listen on %s: %v", path, err)
	case info.Mode().Type() != os.ModeSocket:
		return nil, runtime.Errorf(runtime.CodeReadOnly, "cannot listen on %s, which is no socket", path)
	default:
		ctx, cancel := context.WithTimeout(context.Background(), aliveLimit)
		defer cancel()
		s, err := background.Ask(ctx, path)
		switch {
		case err == nil && s.StateDir != d.place.Dir:
			return nil, runtime.Errorf(runtime.CodeInUse, "cannot listen on %s: the gateway of %s does (pid %d)", path, s.StateDir, s.PID)
		case first:
		case err == nil:
			return nil, errReplaced
		case !background.Absent(err):
			return nil, runtime.Errorf(runtime.CodeInUse, "cannot listen on %s: somebody does, who says %v", path, rootCause(err))
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, runtime.Errorf(runtime.CodeReadOnly, "the socket of an earlier gateway cannot be removed: %v", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeReadOnly, "cannot listen on %s: %v", path, rootCause(err))
	}
	l.SetUnlinkOnClose(false) // the file there may be another's by then
	f := &socketFile{UnixListener: l, path: path}
	err = os.Chmod(path, 0o600) // whoever may enter its folder
	if err == nil {
		f.info, err = os.Lstat(path)
	}
	if err != nil {
		_ = l.Close()
		return nil, runtime.Errorf(runtime.CodeReadOnly, "cannot listen on %s: %v", path, err)
	}
	return f, nil
}

// there tells whether who comes to the path comes to us.
func (f *socketFile) there() bool {
	info, err := os.Lstat(f.path)
	return err == nil && os.SameFile(info, f.info)
}

// retire ends the listener alone: its server and its connections go on.
func (f *socketFile) retire() {
	f.retired.Store(true)
	_ = f.Close() // nobody can come any more
}

func (f *socketFile) Accept() (net.Conn, error) {
	conn, err := f.UnixListener.Accept()
	if err != nil && f.retired.Load() {
		return nil, errRetired
	}
	return conn, err
}

func (f *socketFile) Close() error {
	if f.there() {
		_ = os.Remove(f.path) // what is left is taken for dead
	}
	return f.UnixListener.Close()
}

var errRetired = errors.New("the socket was made again")

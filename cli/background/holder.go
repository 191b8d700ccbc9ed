package background

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
)

// backLimit is how long a gateway without a socket may take to listen again; it
// looks after it each second.
const backLimit = 5 * time.Second

// Holder is the process that has the data folder open, 0 for none, whether it answers
// or not. The system says so, which knows no process that is gone. Who has the folder
// open itself must not ask: the question would end the lock.
func (p Place) Holder() int {
	f, err := os.Open(filepath.Join(p.Data(), "LOCK"))
	if err != nil {
		return 0
	}
	defer f.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	if syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock) != nil || lock.Type == syscall.F_UNLCK || lock.Pid <= 0 {
		return 0
	}
	return int(lock.Pid)
}

// Await is Running, and waits for a gateway that lives but has no socket at the
// moment: its folder has gone, or it only just starts. With ok false pid is the process
// that holds the folder all the same, 0 for none.
func (p Place) Await(ctx context.Context) (socket string, s Status, pid int, ok bool) {
	for giveUp := time.Now().Add(backLimit); ; {
		if socket, s, ok = p.Running(ctx); ok {
			return socket, s, s.PID, true
		}
		if pid = p.Holder(); pid == 0 || time.Now().After(giveUp) {
			return "", Status{}, pid, false
		}
		select {
		case <-ctx.Done():
			return "", Status{}, pid, false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// mute is the error about a process that holds the folder and does not answer.
func (p Place) mute(pid int) error {
	return runtime.Errorf(runtime.CodeInUse,
		"process %d holds %s and does not answer on its socket %s; kar gateway stop ends it", pid, p.Data(), p.Socket)
}

// stopMute tells a gateway without a socket to stop and waits until it is gone.
func (p Place) stopMute(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return runtime.Errorf(runtime.CodeNoGateway, "the gateway (pid %d) cannot be told to stop: %v", pid, err)
	}
	return awaitEnd(ctx, pid)
}

func awaitEnd(ctx context.Context, pid int) error {
	for alive(pid) {
		select {
		case <-ctx.Done():
			return runtime.Errorf(runtime.CodeNoGateway, "the gateway (pid %d) is still stopping", pid)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

package background

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
)

// startLimit is how long a gateway may take to get ready; recovery of a large
// folder takes seconds.
const startLimit = 60 * time.Second

// An Ensurer makes sure that the gateway of a place runs.
type Ensurer struct {
	Place
	Version string
	// Args are further arguments for `kar gateway --background`.
	Args []string
	// Env is added to the gateway's environment, which is this program's.
	Env []string
	// Program is the kar program; "" means the running one.
	Program string
}

// Ensure returns the socket of a gateway that answers. However many call it at
// the same time, in whatever processes, one gateway is started. An idle one of
// an older version is replaced; one that is not idle is used as it is.
func (e Ensurer) Ensure(ctx context.Context) (socket string, err error) {
	if socket, s, ok := e.Running(ctx); ok && !e.replaces(s) {
		return socket, nil
	}
	if e.Prepare() != nil {
		// After a logout the folder of its socket cannot be made.
		e.Socket = e.Spare()
		if err := e.Prepare(); err != nil {
			return "", err
		}
	}
	lock, err := os.OpenFile(e.lockFile(), os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return "", folderError(e.Dir, err)
	}
	defer lock.Close() // gives the lock back
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return "", folderError(e.Dir, err)
		}
		select {
		case <-ctx.Done():
			return "", runtime.Errorf(runtime.CodeNoGateway, "another command has been starting the gateway of %s for too long", e.Dir)
		case <-time.After(5 * time.Millisecond):
		}
	}
	// Somebody else may have been faster.
	socket, s, pid, ok := e.Await(ctx)
	switch {
	case ok && !e.replaces(s):
		return socket, nil
	case ok:
		if err := e.stop(ctx, socket, s); err != nil {
			return socket, nil // still there: as good as before
		}
	}
	if err := e.start(ctx); err != nil {
		if re := (*runtime.Error)(nil); pid != 0 && errors.As(err, &re) && re.Code == runtime.CodeInUse {
			return "", e.mute(pid)
		}
		return "", err
	}
	if socket, _, ok := e.Running(ctx); ok {
		return socket, nil
	}
	return "", runtime.Errorf(runtime.CodeNoGateway, "the gateway of %s ended as soon as it was ready; its log is %s", e.Dir, e.Log())
}

// replaces tells whether this program should take the place of a running gateway.
func (e Ensurer) replaces(s Status) bool {
	if !s.Idle || !s.Background {
		return false
	}
	if Newer(e.Version, s.Version) {
		return true
	}
	// Builds without a version tell their age by the file.
	return plain(e.Version) && plain(s.Version) && BuiltAt() > s.Built
}

// BuiltAt is the modification time of the running program in Unix seconds, 0 when unknown.
func BuiltAt() int64 {
	self, err := os.Executable()
	if err != nil {
		return 0
	}
	info, err := os.Stat(self)
	if err != nil {
		return 0
	}
	return info.ModTime().Unix()
}

// programAt is the file at self, or what replaced it there. When that is gone, as after
// an upgrade into another folder, it is the running program, which the kernel keeps.
func programAt(self string) string {
	if _, err := os.Stat(self); err == nil {
		return self
	}
	const running = "/proc/self/exe"
	if _, err := os.Stat(running); err == nil {
		return running
	}
	if found, err := exec.LookPath(os.Args[0]); err == nil {
		return found
	}
	return self
}

// start runs a detached gateway and waits until it says that it is ready.
func (e Ensurer) start(ctx context.Context) error {
	program := e.Program
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return runtime.Errorf(runtime.CodeNoGateway, "cannot find the kar program: %v", err)
		}
		program = programAt(self)
	}
	log, err := OpenLog(e.Log())
	if err != nil {
		return folderError(e.Dir, err)
	}
	defer log.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return runtime.Errorf(runtime.CodeNoGateway, "cannot make a pipe: %v", err)
	}
	defer ready.Close()

	args := append([]string{"gateway", "--background", "--state-dir", e.Dir, "--socket", e.Socket}, e.Args...)
	cmd := exec.Command(program, args...) //nolint:noctx // it outlives ctx by intention
	cmd.Dir, cmd.Env = "/", append(os.Environ(), e.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3: the gateway says there that it is ready
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return runtime.Errorf(runtime.CodeNoGateway, "cannot start the gateway: %v", err)
	}
	// Its end is for the kernel to tell us when we are still there; it outlives us.
	go func() { _ = cmd.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(ready, 64<<10))
	if err != nil {
		return runtime.Errorf(runtime.CodeNoGateway, "the gateway of %s was not ready in time", e.Dir)
	}
	var r readiness
	if json.Unmarshal(said, &r) != nil {
		return runtime.Errorf(runtime.CodeNoGateway, "the gateway of %s ended while it started; its log is %s", e.Dir, e.Log())
	}
	if r.Error != "" {
		return &runtime.Error{Code: r.Code, Detail: r.Error}
	}
	return nil
}

// readiness is the one message on descriptor 3.
type readiness struct {
	Ready bool         `json:"ready"`
	Code  runtime.Code `json:"code,omitempty"`
	Error string       `json:"error,omitempty"`
}

// TellReady is called once by a background gateway: err nil says that its
// socket answers, any other that it gives up.
func TellReady(err error) {
	f := os.NewFile(readyFD, "ready")
	if f == nil {
		return
	}
	defer f.Close()
	r := readiness{Ready: err == nil}
	if err != nil {
		r.Code, r.Error = runtime.CodeNoGateway, err.Error()
		if re := (*runtime.Error)(nil); errors.As(err, &re) {
			r.Code, r.Error = re.Code, re.Detail
		}
	}
	_ = json.NewEncoder(f).Encode(r)
}

// Stop asks the running gateway to stop and returns when it is gone. One that does not
// answer gets a signal. Stopped is false when there was none.
func (p Place) Stop(ctx context.Context) (stopped bool, err error) {
	socket, s, pid, ok := p.Await(ctx)
	switch {
	case ok:
		err = p.stop(ctx, socket, s)
	case pid != 0:
		err = p.stopMute(ctx, pid)
	default:
		return false, nil
	}
	return err == nil, err
}

func (p Place) stop(ctx context.Context, socket string, s Status) error {
	if err := post(ctx, socket, StopPath); err != nil && !Absent(err) {
		return runtime.Errorf(runtime.CodeNoGateway, "the gateway (pid %d) does not take the order to stop: %v", s.PID, err)
	}
	return awaitEnd(ctx, s.PID)
}

func post(ctx context.Context, socket, path string) error {
	req, err := newPost(ctx, path)
	if err != nil {
		return err
	}
	resp, err := Client(socket).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

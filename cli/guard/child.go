package guard

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Spec is a command to run under a guard.
type Spec struct {
	Command []string // program and arguments
	Env     []string // complete environment of the command
	// Stdin, Stdout and Stderr of the command; nil inherits ours, byte for byte.
	Stdin, Stdout, Stderr *os.File
	// Gateway and Boot are for the guard's report when this process dies.
	Gateway Gateway
	Boot    string
	// Beyond, when set, is told of what cannot be killed and how long its end is waited for.
	Beyond func(what string, limit time.Duration)
	// Stopped, when set, is told when the command was stopped by somebody else, and no
	// terminal is ours that it could have.
	Stopped func(syscall.Signal)

	deniedFor time.Duration // 0 means the constant
}

// Exit is the end of a command.
type Exit struct {
	Code   int    // of the command; 128+n when signal n ended it
	Signal int    // that signal, or 0
	Reason string // for people
	// Left says what of the tree could not be killed, "" when nothing is left: without
	// that the end is no proof.
	Left string
}

// A Child is a running command, seen from the sidecar.
type Child struct {
	PID int // of the command, and its process group

	pipe   *pipe
	guard  *exec.Cmd
	frozen chan string // the detail of each evFrozen
	beyond chan struct{}
	stops  chan syscall.Signal // see attendStops
	spec   Spec
	limit  time.Duration // of what cannot be killed
	done   chan struct{}
	seen   witness
	mu     sync.Mutex
	foregr int    // our process group while the command has its terminal
	why    string // reason given to Kill
	exit   Exit
}

// Check finds the program. The error has CodeNoCommand; code is the exit code
// that shells use for it: 127 not found, 126 not executable.
func Check(command string) (path string, code int, err error) {
	path, err = exec.LookPath(command)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		return path, 0, nil
	case errors.Is(err, fs.ErrPermission):
		return "", 126, runtime.Errorf(runtime.CodeNoCommand, "%q cannot be executed: permission denied", command)
	}
	if info, serr := os.Stat(command); serr == nil && info.IsDir() {
		return "", 126, runtime.Errorf(runtime.CodeNoCommand, "%q is a folder, not a program", command)
	}
	return "", 127, runtime.Errorf(runtime.CodeNoCommand, "there is no program %q", command)
}

// Start starts the guard, which starts the command. The int is the exit code
// that goes with an error.
func Start(spec Spec) (*Child, int, error) {
	path, code, err := Check(spec.Command[0])
	if err != nil {
		return nil, code, err
	}
	if err := checkProc("/proc"); err != nil {
		return nil, 1, err
	}
	// When the guard is killed, what it left behind comes to us.
	if err := becomeReaper(); err != nil {
		return nil, 1, runtime.Errorf(runtime.CodeInternal, "cannot become sub-reaper: %v", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, 1, runtime.Errorf(runtime.CodeInternal, "cannot make a socket pair: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, 1, runtime.Errorf(runtime.CodeInternal, "cannot find the kar program: %v", err)
	}
	cmd := exec.Command(self, "guard") //nolint:noctx // Child.Kill ends it, with proof
	cmd.Stdin, cmd.Stdout, cmd.Stderr = or(spec.Stdin, os.Stdin), or(spec.Stdout, os.Stdout), or(spec.Stderr, os.Stderr)
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: who kills the sidecar's group leaves the guard to clean up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return nil, 1, runtime.Errorf(runtime.CodeInternal, "cannot start the guard: %v", err)
	}
	c := &Child{
		pipe: newPipe(ours), guard: cmd,
		frozen: make(chan string, 1), done: make(chan struct{}),
		beyond: make(chan struct{}), stops: make(chan syscall.Signal, 1), spec: spec, limit: cmp.Or(spec.deniedFor, deniedFor),
	}
	if spec.Stdin == nil {
		c.foregr = foregroundGroup()
	}
	c.pipe.send(order{Op: opStart, Start: &startSpec{
		Path: []byte(path), Args: bytesOf(spec.Command), Env: bytesOf(spec.Env),
		Foreground: c.foregr, DeniedFor: c.limit, Gateway: spec.Gateway, Boot: spec.Boot,
	}})
	var first event
	if err := c.pipe.dec.Decode(&first); err != nil {
		first = event{Event: evFailed, Code: 1, Detail: "the guard ended at once"}
	}
	if first.Event == evFailed {
		_ = ours.Close()
		_ = cmd.Wait()
		return nil, first.Code, runtime.Errorf(runtime.CodeNoCommand, "%q cannot be executed: %s", spec.Command[0], first.Detail)
	}
	c.PID = first.PID
	go c.watch(ours)   // ends with the command: Done
	go c.attendStops() // the same
	return c, 0, nil
}

// watch reads the guard's events until the command has ended.
func (c *Child) watch(conn net.Conn) {
	defer close(c.done)
	defer conn.Close()
	for {
		var e event
		if err := c.pipe.dec.Decode(&e); err != nil {
			c.exit = c.guardLost()
			return
		}
		switch e.Event {
		case evFrozen:
			select {
			case c.frozen <- e.Detail:
			default:
			}
		case evStopped:
			if c.foreground() != 0 {
				c.stopWithChild()
				continue
			}
			select {
			case c.stops <- syscall.Signal(e.Signal):
			default: // the one before has not been looked at
			}
		case evBeyond:
			close(c.beyond) // the guard says it once
			c.announce(e.Detail)
		case evExited:
			c.exit = Exit{Code: e.Code, Signal: e.Signal, Reason: e.Detail, Left: e.Left}
			_ = c.guard.Wait()
			return
		}
	}
}

// guardLost cleans up after a guard that was killed: its orphans are ours now.
func (c *Child) guardLost() Exit {
	_ = c.guard.Wait() // after this the kernel has handed them over
	_ = syscall.Kill(-c.PID, syscall.SIGKILL)
	announce := func(err error) { c.announce(err.Error()) }
	left := killTree(os.Getpid(), c.PID, c.limit, announce, func(readable bool) bool {
		for _, pid := range zombies(os.Getpid()) {
			var ws syscall.WaitStatus
			_, _ = syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
		}
		return readable && syscall.Kill(-c.PID, 0) == syscall.ESRCH
	})
	if own := c.foreground(); own != 0 {
		reclaimTerminal(own)
	}
	return Exit{Code: 128 + int(syscall.SIGKILL), Signal: int(syscall.SIGKILL), Reason: "the guard ended", Left: textOf(left)}
}

func (c *Child) announce(what string) {
	if c.spec.Beyond != nil {
		c.spec.Beyond(what, c.limit)
	}
}

// stopWithChild: Ctrl-Z stopped the command, so the job as a whole stops. The
// next line runs when the shell continues it.
func (c *Child) stopWithChild() {
	reclaimTerminal(c.foreground())
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	defer signal.Stop(cont)
	_ = syscall.Kill(0, syscall.SIGTSTP)
	<-cont
	c.goOn()
}

// goOn continues the command, in the foreground when that is ours now: a shell's bg has
// kept the terminal.
func (c *Child) goOn() {
	own := foregroundGroup()
	c.mu.Lock()
	c.foregr = own
	c.mu.Unlock()
	c.pipe.send(order{Op: opContinue, Foreground: own})
}

func (c *Child) foreground() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foregr
}

// terminalEvery is how often a stopped command's terminal is looked at: no signal tells
// that a shell has given it to a job that runs.
const terminalEvery = 200 * time.Millisecond

// attendStops looks after a command that was stopped while it has no terminal, as one is
// that reads from it: it goes on as soon as the terminal is ours, or when this process is
// told to.
func (c *Child) attendStops() {
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	defer signal.Stop(cont)
	var said time.Time
	say := func(sig syscall.Signal) {
		// A lease that is kept again continues it as well, and it stops once more at once.
		if c.spec.Stopped != nil && time.Since(said) > time.Second {
			said = time.Now()
			c.spec.Stopped(sig)
		}
	}
	for {
		select {
		case <-c.done:
			return
		case <-cont: // nothing stands still
			continue
		case sig := <-c.stops:
			if foregroundGroup() == 0 {
				say(sig)
			}
		}
		look := time.NewTicker(terminalEvery)
		for waits := true; waits; {
			select {
			case <-c.done:
				waits = false
			case sig := <-c.stops: // somebody else has continued it
				say(sig)
			case <-cont:
				c.goOn()
				waits = false
			case <-look.C:
				if foregroundGroup() != 0 {
					c.goOn()
					waits = false
				}
			}
		}
		look.Stop()
	}
}

// reclaimTerminal makes group, ours, the foreground group.
func reclaimTerminal(group int) {
	signal.Ignore(syscall.SIGTTOU)
	giveTerminal(group)
}

// Freeze stops the whole tree and returns when it has stopped. Should the
// guard not answer, this process does it. An error says that a process of the
// tree runs on.
func (c *Child) Freeze() error {
	select {
	case <-c.frozen:
	default:
	}
	c.pipe.send(order{Op: opFreeze})
	patience := time.NewTimer(500 * time.Millisecond)
	defer patience.Stop()
	select {
	case detail := <-c.frozen:
		if detail != "" {
			return errors.New(detail)
		}
	case <-c.done:
	case <-patience.C:
		return freezeTree(c.guard.Process.Pid, c.PID)
	}
	return nil
}

// Unheld names a process of the tree that this user may not signal, as those below sudo
// or of a set-uid program are not: it can be neither frozen nor killed. An error without a
// process says that the processes cannot be seen.
func (c *Child) Unheld() (pid int, err error) { return unheld(c.guard.Process.Pid) }

// Thaw lets a frozen tree go on.
func (c *Child) Thaw() { c.pipe.send(order{Op: opThaw}) }

// Outside tells the guard that the app is outside of the tree: that the tree has ended
// proves nothing about it, and is not reported when this process is gone.
func (c *Child) Outside() { c.pipe.send(order{Op: opOutside}) }

// Lease lets the tree run up to a point of [BootTime] without another word;
// the guard freezes it then, even when this process is stopped. 0 takes the
// limit away.
func (c *Child) Lease(until time.Duration) { c.pipe.send(order{Op: opLease, Until: int64(until)}) }

// Signal forwards a signal to the command's process group.
func (c *Child) Signal(sig syscall.Signal) { c.pipe.send(order{Op: opSignal, Signal: int(sig)}) }

// Kill kills the whole tree and returns when nothing is left of it, or nothing else than
// [Exit.Left].
func (c *Child) Kill(reason string) {
	c.mu.Lock()
	c.why = reason
	c.mu.Unlock()
	c.pipe.send(order{Op: opKill, Reason: reason})
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case <-c.done:
		return
	case <-c.beyond:
		select {
		case <-c.done:
			return
		case <-time.After(c.limit + time.Second):
		}
	case <-patience.C:
	}
	// A guard that does not answer is stopped or starved; without it we are the reaper.
	_ = c.guard.Process.Kill()
	<-c.done
}

// Done is closed when the command has ended and nothing of its tree is left.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait returns the end of the command, or ctx's error.
func (c *Child) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.why != "" {
			c.exit.Reason = c.why
		}
		return c.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

func or(f, otherwise *os.File) *os.File {
	if f != nil {
		return f
	}
	return otherwise
}

// socketPair is a stream between two processes that ends when either dies.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "guard"), os.NewFile(uintptr(fds[1]), "sidecar")
	conn, err := net.FileConn(mine)
	_ = mine.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	goruntime "runtime"
	"syscall"
	"time"
)

// pipeFD is the guard's end of the socket pair.
const pipeFD = 3

// Main is the guard process: it takes orders from the sidecar on descriptor 3
// and returns its exit code when nothing of the command's tree is left. Report
// is used when the sidecar is gone.
func Main(report Report) int {
	// The kernel kills the command when the thread that forked it ends.
	goruntime.LockOSThread()
	file := os.NewFile(pipeFD, "sidecar")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		_, _ = os.Stderr.WriteString("kar: bad_flag: `kar guard` is started by `kar run` only\n")
		return 2
	}
	defer conn.Close()
	// A handler, not "ignore": an ignored signal would stay ignored in the command.
	quiet := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(quiet, s)
		}
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)

	g := &guard{report: report, pipe: newPipe(conn), orders: make(chan order), term: term, quiet: quiet}
	if err := becomeReaper(); err != nil {
		g.pipe.send(event{Event: evFailed, Code: 1, Detail: "cannot become sub-reaper: " + err.Error()})
		return 1
	}
	go g.readOrders() // ends with the process: it reads until the sidecar is gone
	return g.run()
}

// guard is the state of the guard process; only run touches what is below orders.
type guard struct {
	report Report
	pipe   *pipe
	orders chan order // closed when the sidecar is gone
	term   chan os.Signal
	quiet  chan os.Signal

	start  *startSpec
	pid    int // the command and its process group
	reaped chan reaped
	// frozen by the sidecar, or here because the lease ran out.
	frozen, late bool
	outside      bool          // see opOutside
	left         error         // what of the tree could not be killed
	until        time.Duration // end of the lease on the boot-time clock, 0 for none
}

// reaped is what the reaper has seen of a child; none means that there are no children left.
type reaped struct {
	pid    int
	status syscall.WaitStatus
	none   bool
}

func (g *guard) readOrders() {
	defer close(g.orders)
	for {
		var o order
		if g.pipe.dec.Decode(&o) != nil {
			return
		}
		g.orders <- o
	}
}

// run obeys until the command has ended, the sidecar is gone or SIGTERM comes.
func (g *guard) run() int {
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	for {
		tick.Reset(g.nextLook())
		select {
		case o, ok := <-g.orders:
			if !ok {
				return g.finish("the sidecar ended", true)
			}
			if end, code := g.obey(o); end {
				return code
			}
		case r := <-g.reaped:
			switch {
			case r.pid == g.pid && r.status.Stopped():
				if !g.frozen && !g.late && standsStill(g.pid) {
					g.pipe.send(event{Event: evStopped, Signal: int(r.status.StopSignal())})
				}
			case r.pid == g.pid:
				return g.ended(r.status)
			}
		case <-g.quiet:
			// From the terminal: the command has had it too.
		case <-g.term:
			return g.finish("the guard was told to end", false)
		case <-tick.C:
			g.checkLease()
		}
	}
}

// obey carries out one order; end says that the guard is done.
func (g *guard) obey(o order) (end bool, code int) {
	switch o.Op {
	case opStart:
		g.start = o.Start
		return g.launch()
	case opSignal:
		_ = syscall.Kill(-g.pid, syscall.Signal(o.Signal))
	case opFreeze:
		g.frozen = true
		e := event{Event: evFrozen}
		if err := freezeTree(os.Getpid(), g.pid); err != nil {
			e.Detail = err.Error()
		}
		g.pipe.send(e)
	case opThaw:
		g.frozen, g.late = false, false
		_, _ = signalTree(os.Getpid(), g.pid, syscall.SIGCONT)
	case opKill:
		return true, g.finish(o.Reason, false)
	case opLease:
		g.until = time.Duration(o.Until)
		g.checkLease()
	case opOutside:
		g.outside = true
	case opContinue:
		if g.start.Foreground = o.Foreground; o.Foreground != 0 {
			signal.Ignore(syscall.SIGTTOU)
			giveTerminal(g.pid)
		}
		if !g.frozen && !g.late { // else it goes on with the lease
			_ = syscall.Kill(-g.pid, syscall.SIGCONT)
		}
	}
	return false, 0
}

// launch forks the command from this very thread and starts the reaper.
func (g *guard) launch() (failed bool, code int) {
	pid, err := syscall.ForkExec(string(g.start.Path), textsOf(g.start.Args), &syscall.ProcAttr{
		Env:   textsOf(g.start.Env),
		Files: []uintptr{0, 1, 2},
		Sys:   childAttr(),
	})
	if err != nil {
		code = 126
		if errors.Is(err, syscall.ENOENT) {
			code = 127
		}
		g.pipe.send(event{Event: evFailed, Code: code, Detail: err.Error()})
		return true, code
	}
	g.pid = pid
	if g.start.Foreground != 0 {
		// Only now, or the command would inherit the ignored signal.
		signal.Ignore(syscall.SIGTTOU)
		giveTerminal(pid)
		_ = syscall.Kill(-pid, syscall.SIGCONT) // it may have read too early
	}
	g.reaped = make(chan reaped, 16)
	go reap(g.reaped) // ends when no child is left
	g.pipe.send(event{Event: evStarted, PID: pid})
	return false, 0
}

// reap waits for children, adopted ones too, until there are none.
func reap(out chan<- reaped) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			out <- reaped{none: true}
			return
		default:
			out <- reaped{pid: pid, status: ws}
		}
	}
}

// ended: the command is gone; what it left behind goes too.
func (g *guard) ended(ws syscall.WaitStatus) int {
	g.killAll(true)
	if g.start.Foreground != 0 {
		giveTerminal(g.start.Foreground)
	}
	e := event{Event: evExited, Code: exitCode(ws)}
	if ws.Signaled() {
		e.Signal = int(ws.Signal())
	}
	e.Left = textOf(g.left)
	g.pipe.send(e)
	return e.Code
}

// finish kills everything and tells whoever is left to be told.
func (g *guard) finish(reason string, report bool) int {
	if g.pid == 0 {
		return 0
	}
	status := g.killAll(false)
	if report {
		switch {
		case g.left != nil:
			_, _ = fmt.Fprintf(os.Stderr, "kar: ERROR %v; the end of the component is not reported, and its work is tried again when its lease is over, perhaps beside what runs there\n", g.left)
		case !g.outside:
			reportExit(g.report, g.start.Gateway, g.start.Boot, reason)
		}
		return exitCode(status)
	}
	if g.start.Foreground != 0 {
		giveTerminal(g.start.Foreground)
	}
	g.pipe.send(event{Event: evExited, Code: exitCode(status), Signal: int(syscall.SIGKILL), Detail: reason, Left: textOf(g.left)})
	return exitCode(status)
}

// killAll returns when nothing of the tree is left that could be killed, with the end
// of the command itself unless that was seen before: SIGKILL when nobody can tell.
func (g *guard) killAll(seen bool) (last syscall.WaitStatus) {
	last = syscall.WaitStatus(syscall.SIGKILL)
	gone := false
	note := func(r reaped) {
		gone = gone || r.none || (!canReap && r.pid == g.pid)
		if r.pid == g.pid && !r.status.Stopped() {
			last, seen = r.status, true
		}
	}
	announce := func(err error) { g.pipe.send(event{Event: evBeyond, Detail: err.Error()}) }
	g.left = killTree(os.Getpid(), g.pid, g.start.DeniedFor, announce, func(readable bool) bool {
		for {
			select {
			case r := <-g.reaped:
				note(r)
			default:
				// Adopted gateways are children that stay, so the scan decides as well.
				tree, err := descendants(os.Getpid())
				return gone || readable && err == nil && len(tree) == 0
			}
		}
	})
	if g.left != nil {
		seen = true // what is left may be the command, whose end nobody will see
	}
	// The process table may be empty before the reaper has said what it has seen.
	for patience := time.After(time.Second); !seen && !gone; {
		select {
		case r := <-g.reaped:
			note(r)
		case <-patience:
			return last
		}
	}
	return last
}

// nextLook is when the lease must be looked at again. Timers stand still while
// the machine sleeps, so it is never far away.
func (g *guard) nextLook() time.Duration {
	if g.until == 0 || g.late {
		return time.Hour
	}
	return min(max(g.until-BootTime(), 0)+time.Millisecond, 500*time.Millisecond)
}

// checkLease freezes the tree when the lease is over (the sidecar itself may be
// stopped, and nobody else can), and thaws what it froze when there is a new one.
func (g *guard) checkLease() {
	if g.pid == 0 {
		return
	}
	over := g.until != 0 && BootTime() >= g.until
	switch {
	case over && !g.late:
		g.late = true
		if !g.frozen {
			_ = freezeTree(os.Getpid(), g.pid) // the sidecar, when it goes on, asks and says so
		}
	case !over && g.late:
		g.late = false
		if !g.frozen {
			_, _ = signalTree(os.Getpid(), g.pid, syscall.SIGCONT)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests in this file are about processes that say something which nobody reads,
// or which is read by somebody who goes.

// A slowReader has one end of a pipe, and a process the other.
type slowReader struct {
	t    *testing.T
	path string
	fd   int
	end  *os.File // for the process
	got  strings.Builder
}

func newSlowReader(t *testing.T) *slowReader {
	t.Helper()
	r := &slowReader{t: t, path: filepath.Join(t.TempDir(), "pipe")}
	if err := syscall.Mkfifo(r.path, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.fd, err = syscall.Open(r.path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	end, err := syscall.Open(r.path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.end = os.NewFile(uintptr(end), r.path)
	t.Cleanup(r.goAway)
	return r
}

// starts starts a process whose stderr, and stdout if told, this is.
func (r *slowReader) starts(u *user, stdout bool, args ...string) *process {
	r.t.Helper()
	cmd := exec.Command(u.bin, args...)
	cmd.Env = u.env
	p := &process{t: r.t, cmd: cmd, out: &lockedBuffer{}, errout: &lockedBuffer{}, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = p.out, r.end
	if stdout {
		cmd.Stdout = r.end
	}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	_ = r.end.Close()
	go func() { p.done <- cmd.Wait() }()
	r.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

// reads reads until it has seen the text.
func (r *slowReader) reads(text string) {
	r.t.Helper()
	buf := make([]byte, 64<<10)
	eventually(r.t, "it reads "+text, func() bool {
		if n, err := syscall.Read(r.fd, buf); err == nil {
			r.got.Write(buf[:n])
		}
		return strings.Contains(r.got.String(), text)
	})
}

// fill writes into the pipe, in the name of somebody else, until nothing fits.
func (r *slowReader) fill() {
	r.t.Helper()
	fd, err := syscall.Open(r.path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer syscall.Close(fd)
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, syscall.EAGAIN) {
			r.t.Fatal(err)
		}
	}
}

func (r *slowReader) goAway() {
	if r.fd >= 0 {
		_ = syscall.Close(r.fd)
		r.fd = -1
	}
}

// asksNobody has the component call an actor that nobody offers; kar run says so
// after a second. The calls end with the component.
func asksNobody(t *testing.T, port int, id string) {
	t.Helper()
	var sent sync.WaitGroup
	t.Cleanup(sent.Wait)
	sent.Go(func() {
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/kar/v1/actor/Absent/%s/call/get", port, id), "application/kar+json", strings.NewReader("[]"))
		if err == nil {
			_ = resp.Body.Close()
		}
	})
}

// component starts one whose stderr this is, and waits until it listens.
func (r *slowReader) component(u *user, dir string, flags ...string) (p *process, app, runtimePort int) {
	r.t.Helper()
	runtimePort = freePort(r.t)
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	with := *u
	with.env = append(u.env[:len(u.env):len(u.env)], "KAR_TEST_COMPONENT="+dir)
	args := append([]string{"run", "-app", "a", "-service", "s", "-actors", "T", "-runtime_port", strconv.Itoa(runtimePort)}, flags...)
	p = r.starts(&with, false, append(args, "--", self)...)
	eventually(r.t, "the component listens", func() bool { return strings.Contains(p.out.String(), "listening") })
	_, rest, _ := strings.Cut(p.out.String(), "listening ")
	if _, err := fmt.Sscan(rest, &app); err != nil {
		r.t.Fatal(err)
	}
	return p, app, runtimePort
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// processState is the letter of ps, as T for a process that is stopped.
func processState(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// TestComponentWhoseLogIsNotRead: a sidecar that has something to say and cannot get
// rid of it keeps its lease; what runs in its app is not tried beside itself.
func TestComponentWhoseLogIsNotRead(t *testing.T) {
	const lease = 500 * time.Millisecond
	u, dir := newUser(t, "KAR_LEASE="+lease.String()), t.TempDir()
	r := newSlowReader(t)
	p, _, port := r.component(u, dir, "-grace", "100ms")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	u.component(dir)
	r.fill()
	var begin time.Time
	for n := range 3 { // each is said, and noted by the loop that keeps the lease
		asksNobody(t, port, strconv.Itoa(n))
		begin = time.Now()
		eventually(t, "it was noted", func() bool { return time.Since(begin) > 1200*time.Millisecond })
	}
	eventually(t, "lease and margin have passed", func() bool { return time.Since(begin) > lease+2*time.Second })
	if exists(dir, "attempt-2") {
		t.Error("it was tried again beside itself")
	}
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.code != 0 || got.out != "\"1\"\n" {
		t.Errorf("%+v", got)
	}
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.wait()
}

// TestFreezeIsNotHeldUpByTheLog: the app of such a sidecar is stopped when its lease
// runs out.
func TestFreezeIsNotHeldUpByTheLog(t *testing.T) {
	u, dir := newUser(t, "KAR_LEASE=500ms"), t.TempDir()
	r := newSlowReader(t)
	p, app, _ := r.component(u, dir, "-v", "info")
	if processState(app) == "" {
		t.Skip("SKIPPED: this system does not say whether a process is stopped")
	}
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	gateway, _ := u.status()
	r.fill()
	send(t, syscall.SIGSTOP, gateway.PID)
	t.Cleanup(func() { _ = syscall.Kill(gateway.PID, syscall.SIGCONT) })
	eventually(t, "the app is stopped", func() bool { return processState(app) == "T" })
	send(t, syscall.SIGCONT, gateway.PID)
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.code != 0 || got.out != "\"1\"\n" {
		t.Errorf("%+v", got)
	}
	r.reads("the component goes on") // all that fits waits until somebody reads
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.wait()
}

// TestGatewayWhoseLogIsNotRead: it serves everybody, and ends when it is told to.
func TestGatewayWhoseLogIsNotRead(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	r := newSlowReader(t)
	p := r.starts(u, false, "gateway", "-v", "debug", "--listen", "127.0.0.1:0")
	r.reads("gateway ready")
	r.fill()
	u.component(dir)
	for n := range 20 {
		if got := u.kar("invoke", "-app", "a", "T", "x", "echo", strconv.Itoa(n)); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	if got := u.kar("rest", "-app", "a", "post", "s", "absent", "1"); got.code != 1 {
		t.Errorf("%+v", got)
	}
	if _, running := u.status(); !running {
		t.Error("the gateway does not say how it is")
	}
	r.reads("host")
	r.fill()
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	if got := p.wait(); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

// TestEndThatNobodyReads: a component that is told to end does so, though what it has
// written is not read.
func TestEndThatNobodyReads(t *testing.T) {
	u := newUser(t)
	r := newSlowReader(t)
	p := r.starts(u, true, "run", "-app", "a", "-v", "info", "-grace", "100ms", "--", "sh", "-c", "echo up; while :; do echo more; done")
	r.reads("up")
	r.fill()
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	if got := p.wait(); got.code != 137 && got.code != 143 {
		t.Errorf("%+v", got)
	}
}

// TestReaderOfTheLogGoes: neither a gateway nor a component ends with whoever reads
// what it says.
func TestReaderOfTheLogGoes(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	r := newSlowReader(t)
	gateway := r.starts(u, true, "gateway", "-v", "debug", "--listen", "127.0.0.1:0")
	r.reads("gateway ready")
	r.goAway()
	r = newSlowReader(t)
	component, app, port := r.component(u, dir, "-grace", "100ms")
	r.goAway()
	asksNobody(t, port, "1")
	begin := time.Now()
	eventually(t, "it was said", func() bool { return time.Since(begin) > 1500*time.Millisecond })
	if got := u.kar("invoke", "-app", "a", "T", "x", "echo", "1"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if processState(app) == "" && syscall.Kill(app, 0) != nil {
		t.Error("the app has ended")
	}
	for _, p := range []*process{component, gateway} {
		send(t, syscall.SIGTERM, p.cmd.Process.Pid)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%v does not end", p.cmd.Args)
		}
		if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			t.Errorf("%v was ended by %v", p.cmd.Args, status.Signal())
		}
	}
}

// TestReaderOfAResultGoes: a command whose result nobody wants any more ends as
// others do.
func TestReaderOfAResultGoes(t *testing.T) {
	u := newUser(t)
	r := newSlowReader(t)
	r.goAway()
	p := r.starts(u, true, "help", "run")
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v", status)
	}
}

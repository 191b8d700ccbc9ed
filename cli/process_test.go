package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests in this file run the real binary as a process. Those that need no
// gateway of ours speak to a stand-in that takes exit reports.

// karBinary builds kar once for all tests of this package.
func karBinary(t *testing.T) string {
	t.Helper()
	bin, err := builtOnce()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// builtOnce and its folder live as long as the test binary.
var builtOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kar-cli-test-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "kar")
	out, err := exec.Command("go", "build", "-o", bin, "./kar").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building kar: %w\n%s", err, out)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	if dir := os.Getenv("KAR_TEST_COMPONENT"); dir != "" {
		playComponent(dir)
	}
	code := m.Run()
	if bin, err := builtOnce(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

// A user is an environment in which kar runs: a state folder of its own.
type user struct {
	t     *testing.T
	bin   string
	env   []string
	state string
}

func newUser(t *testing.T, env ...string) *user {
	t.Helper()
	dir, err := os.MkdirTemp("", "kar-u-") // short: a socket's path may have 103 bytes
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, bin: karBinary(t), state: filepath.Join(dir, "state")}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAR_") && !strings.HasPrefix(v, "XDG_") {
			u.env = append(u.env, v)
		}
	}
	u.env = append(u.env, "HOME="+dir, "KAR_STATE_DIR="+u.state)
	u.env = append(u.env, env...)
	t.Cleanup(func() {
		u.kar("gateway", "stop")
		_ = os.RemoveAll(dir)
	})
	return u
}

type ended struct {
	out, errout string
	code        int
}

// kar runs a command to its end.
func (u *user) kar(args ...string) ended {
	u.t.Helper()
	p := u.start(args...)
	return p.wait()
}

type process struct {
	t           *testing.T
	cmd         *exec.Cmd
	out, errout *lockedBuffer
	done        chan error
}

func (u *user) start(args ...string) *process {
	u.t.Helper()
	cmd := exec.Command(u.bin, args...)
	cmd.Env = u.env
	p := &process{t: u.t, cmd: cmd, out: &lockedBuffer{}, errout: &lockedBuffer{}, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = p.out, p.errout
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	u.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

func (p *process) wait() ended {
	p.t.Helper()
	select {
	case err := <-p.done:
		e := ended{out: p.out.String(), errout: p.errout.String()}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			e.code = exit.ExitCode()
		} else if err != nil {
			p.t.Fatal(err)
		}
		return e
	case <-time.After(60 * time.Second):
		p.t.Fatalf("%v does not end\n%s%s", p.cmd.Args, p.out, p.errout)
		return ended{}
	}
}

// says waits until the process has printed the text.
func (p *process) says(text string) {
	p.t.Helper()
	p.t.Cleanup(func() {
		if p.t.Failed() {
			p.t.Logf("%v said:\n%s%s", p.cmd.Args, p.out, p.errout)
		}
	})
	eventually(p.t, "it prints "+text, func() bool {
		return strings.Contains(p.out.String()+p.errout.String(), text)
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// eventually polls what other processes bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A standIn is a gateway that takes exit reports and refuses to be attached to.
type standIn struct {
	*httptest.Server
	exits chan string // reasons
}

func newStandIn(t *testing.T) *standIn {
	s := &standIn{exits: make(chan string, 10)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/kar/exit" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var report struct{ Boot, Reason string }
		if json.NewDecoder(r.Body).Decode(&report) == nil && report.Boot != "" {
			s.exits <- report.Reason
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *standIn) awaitExit(t *testing.T) string {
	t.Helper()
	select {
	case reason := <-s.exits:
		return reason
	case <-time.After(15 * time.Second):
		t.Fatal("no exit was reported")
		return ""
	}
}

func TestUsage(t *testing.T) {
	u := newUser(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "Usage:"},
		{[]string{"frobnicate"}, 2, "bad_flag"},
		{[]string{"run", "--no-such-flag"}, 2, "bad_flag"},
		{[]string{"run", "-no_such_flag", "x"}, 2, "bad_flag"},
		{[]string{"run", "--", "true"}, 2, "the application is missing"},
		{[]string{"invoke", "-app", "a", "T"}, 2, "ACTOR_TYPE ACTOR_ID METHOD"},
		{[]string{"rest", "-app", "a", "fetch", "s", "p"}, 2, "not a method"},
		{[]string{"get", "-app", "a", "-s", "cars"}, 2, "actors or sidecars"},
		{[]string{"cancel", "-app", "a"}, 2, "--all"},
		{[]string{"gateway", "--lease", "x"}, 2, "a duration"},
		{[]string{"gateway", "--body-limit", "201326593"}, 2, "at most 201326592"},
		{[]string{"service"}, 2, "needs a command"},
		{[]string{"get", "-app", "a", "--gateway", "ftp://x"}, 2, "unix:///path"},
		{[]string{"get", "-app", "a", "--gateway", "http://127.0.0.1:1"}, 4, "no_gateway"},
	} {
		got := u.kar(c.args...)
		if got.code != c.code || !strings.Contains(got.errout, c.says) || got.out != "" {
			t.Errorf("kar %v: code %d, want %d\n%s%s", c.args, got.code, c.code, got.out, got.errout)
		}
	}
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}, {"run", "-help"}, {"help", "invoke"}, {"completion", "bash"}} {
		if got := u.kar(args...); got.code != 0 || got.out == "" || got.errout != "" {
			t.Errorf("kar %v: code %d, %s", args, got.code, got.errout)
		}
	}
}

func TestRunExitCodes(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command string
		code    int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -TERM $$", 143}, {"kill -KILL $$", 137}} {
		if got := u.kar("run", "-app", "a", "--", "sh", "-c", c.command); got.code != c.code {
			t.Errorf("%s: code %d, want %d\n%s", c.command, got.code, c.code, got.errout)
		}
		s.awaitExit(t)
	}
	for command, code := range map[string]int{"no-such-program": 127, data: 126} {
		got := u.kar("run", "-app", "a", "--", command)
		if got.code != code || !strings.Contains(got.errout, "command_not_found") {
			t.Errorf("%s: code %d, want %d\n%s", command, got.code, code, got.errout)
		}
	}
}

func TestChildEnvironment(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL, "MINE=kept")
	got := u.kar("run", "-app", "shop", "-app_port", "18099", "--", "sh", "-c",
		`echo "$KAR_APP $KAR_APP_PORT $KAR_REQUEST_TIMEOUT $MINE"; test "$KAR_RUNTIME_PORT" -gt 0`)
	if got.code != 0 || got.out != "shop 18099 -1000 kept\n" {
		t.Errorf("got %+v", got)
	}
	got = u.kar("run", "-app", "shop", "-request_retry_limit", "15s", "--", "sh", "-c", `echo $KAR_REQUEST_TIMEOUT`)
	if got.out != "15000\n" {
		t.Errorf("got %+v", got)
	}
}

// TestChildEnvironmentHasOneValueOfEach: what kar run was given under the names
// that it sets is replaced, not joined.
func TestChildEnvironmentHasOneValueOfEach(t *testing.T) {
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL, "KAR_APP=other", "KAR_APP_PORT=9", "KAR_REQUEST_TIMEOUT=7", "MINE=1", "MINE=2")
	got := u.kar("run", "-app", "shop", "-app_port", "18098", "--", "env")
	values := map[string][]string{}
	for line := range strings.Lines(got.out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		values[name] = append(values[name], value)
	}
	for name, list := range values {
		if len(list) != 1 {
			t.Errorf("%s has the values %q", name, list)
		}
	}
	for name, want := range map[string]string{"KAR_APP": "shop", "KAR_APP_PORT": "18098", "KAR_REQUEST_TIMEOUT": "-1000"} {
		if list := values[name]; len(list) != 1 || list[0] != want {
			t.Errorf("%s is %q, want %q", name, list, want)
		}
	}
	if port, err := strconv.Atoi(values["KAR_RUNTIME_PORT"][0]); err != nil || port == 0 {
		t.Errorf("KAR_RUNTIME_PORT is %q", values["KAR_RUNTIME_PORT"])
	}
}

// TestChildGetsBytes: arguments, names of programs and values need not be UTF-8.
func TestChildGetsBytes(t *testing.T) {
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL, "MINE=caf\351")
	got := u.kar("run", "-app", "shop", "--", "sh", "-c", `printf '%s|%s' "$1" "$MINE"`, "sh", "caf\351 \xff")
	if got.code != 0 || got.out != "caf\351 \xff|caf\351" {
		t.Errorf("%q, %+v", got.out, got)
	}
	program := filepath.Join(t.TempDir(), "caf\351")
	if err := os.Symlink("/bin/true", program); err != nil {
		t.Skip("this file system wants UTF-8:", err)
	}
	if got := u.kar("run", "-app", "shop", "--", program); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestFreeAppPortWhen8080IsTaken(t *testing.T) {
	if l, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
		defer l.Close()
	}
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	got := u.kar("run", "-app", "a", "--", "sh", "-c", "echo $KAR_APP_PORT")
	if port, err := strconv.Atoi(strings.TrimSpace(got.out)); err != nil || port == 8080 || port == 0 {
		t.Errorf("got %+v, want a free port", got)
	}
	if got := u.kar("run", "-app", "a", "-app_port", "8080", "--", "sh", "-c", "echo $KAR_APP_PORT"); got.out != "8080\n" {
		t.Errorf("got %+v, want the port that was asked for", got)
	}
}

// TestAppPortIsGivenOnce: of two components that start together, both get a
// port of their own, though none listens yet.
func TestAppPortIsGivenOnce(t *testing.T) {
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
	first := u.start("run", "-app", "a", "-service", "s", "--", "sh", "-c", "echo port $KAR_APP_PORT; exec sleep 60")
	first.says("port ")
	got := u.kar("run", "-app", "b", "-service", "s", "--", "sh", "-c", "echo port $KAR_APP_PORT")
	if got.out == first.out.String() || !strings.HasPrefix(got.out, "port ") {
		t.Errorf("got %+v after %q", got, first.out.String())
	}
}

// TestAskedAppPortInUseIsRefused: calls would go to whoever listens there, and the
// end of the command would be taken for the end of what it does with them.
func TestAskedAppPortInUseIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
	got := u.kar("run", "-app", "a", "-service", "s", "-app_port", port, "--", "echo", "started")
	if got.code != 1 || got.out != "" || !strings.Contains(got.errout, "port_in_use") || !strings.Contains(got.errout, port) {
		t.Errorf("got %+v", got)
	}
}

// TestAskedAppPortIsGivenOnce: nor may two components that do not listen yet wait
// for one port.
func TestAskedAppPortIsGivenOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
	first := u.start("run", "-app", "a", "-service", "s", "-app_port", port, "--", "sh", "-c", "echo up; exec sleep 60")
	first.says("up")
	got := u.kar("run", "-app", "b", "-service", "s", "-app_port", port, "--", "echo", "started")
	if got.code != 1 || got.out != "" || !strings.Contains(got.errout, "port_in_use") {
		t.Errorf("got %+v", got)
	}
}

func TestRuntimePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
	got := u.kar("run", "-app", "a", "-runtime_port", port, "--", "true")
	if got.code != 1 || !strings.Contains(got.errout, "port_in_use") || !strings.Contains(got.errout, port) {
		t.Errorf("got %+v", got)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 15, syscall.SIGINT: 2, syscall.SIGHUP: 1} {
		if signal.Ignored(sig) { // as under nohup: a shell cannot trap what it was started without
			t.Logf("%v is ignored here, and so not tested", sig)
			continue
		}
		p := u.start("run", "-app", "a", "--", "sh", "-c",
			`trap 'echo TERM; exit 15' TERM; trap 'echo INT; exit 2' INT; trap 'echo HUP; exit 1' HUP; echo up; while :; do sleep 0.01; done`)
		p.says("up")
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := p.wait(); got.code != code {
			t.Errorf("%v: got %+v, want the code of the trap, %d", sig, got, code)
		}
	}
}

func TestGraceAndSecondSignal(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	const deaf = `trap 'echo heard' TERM; echo up; while :; do sleep 0.01; done`

	p := u.start("run", "-app", "a", "-grace", "300ms", "--", "sh", "-c", deaf)
	p.says("up")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if got := p.wait(); got.code != 137 || !strings.Contains(got.out, "heard") {
		t.Errorf("after the grace period: got %+v", got)
	}

	p = u.start("run", "-app", "a", "-grace", "1h", "--", "sh", "-c", deaf)
	p.says("up")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.says("heard")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if got := p.wait(); got.code != 137 {
		t.Errorf("after a second signal: got %+v", got)
	}
}

func TestLongLinesPass(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	const script = `head -c 1048576 /dev/zero | tr '\0' x; echo end >&2`
	long := strings.Repeat("x", 1<<20)
	if got := u.kar("run", "-app", "a", "--", "sh", "-c", script); got.out != long || got.errout != "end\n" {
		t.Errorf("got %d and %d bytes", len(got.out), len(got.errout))
	}
	got := u.kar("run", "-app", "a", "-v", "info", "--", "sh", "-c", script)
	if !strings.Contains(got.out, "[STDOUT] "+long+"\n") || !strings.Contains(got.out, "[STDERR] end\n") {
		t.Errorf("with prefixes: got %d bytes", len(got.out))
	}
}

func TestKill9OfTheSidecarIsReportedByTheGuard(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	p := u.start("run", "-app", "a", "--", "sh", "-c", `sleep 1000 & echo $! $$ up; wait`)
	p.says("up")
	var pids [2]int
	if _, err := fmt.Sscan(p.out.String(), &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_ = p.cmd.Process.Kill()
	if reason := s.awaitExit(t); reason != "the sidecar ended" {
		t.Errorf("reported: %s", reason)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the report took %v", took)
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) != syscall.ESRCH {
			eventually(t, "process "+strconv.Itoa(pid)+" is gone", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
		}
	}
}

func TestKill9OfTheGuard(t *testing.T) {
	s := newStandIn(t)
	u := newUser(t, "KAR_GATEWAY="+s.URL)
	p := u.start("run", "-app", "a", "--", "sh", "-c", `sleep 1000 & echo $! $PPID up; wait`)
	p.says("up")
	var sleep, guard int
	if _, err := fmt.Sscan(p.out.String(), &sleep, &guard); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(guard, syscall.SIGKILL)
	if got := p.wait(); got.code != 137 {
		t.Errorf("got %+v", got)
	}
	if syscall.Kill(sleep, 0) != syscall.ESRCH {
		t.Error("kar run ended before its tree")
	}
	if reason := s.awaitExit(t); reason != "the guard ended" {
		t.Errorf("reported: %s", reason)
	}
}

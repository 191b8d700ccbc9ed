package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/cli/background"
)

// The tests in this file run components on real gateways, all as processes.

// playComponent is a component in this binary: a service and actors of type T.
// It never returns. Methods speak to tests through files in dir.
func playComponent(dir string) {
	mux := http.NewServeMux()
	mux.HandleFunc("HEAD /kar/impl/v1/actor/T", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /kar/impl/v1/actor/T/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("DELETE /kar/impl/v1/actor/T/{id}", func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.PathValue("id"), "saves-") {
			time.Sleep(300 * time.Millisecond) // what it does then takes time
		}
		note(dir, "deactivated-"+url.PathEscape(r.PathValue("id")), "")
	})
	mux.HandleFunc("POST /kar/impl/v1/actor/T/{id}/{method}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		attempt := r.Header.Get("Kar-Attempt")
		switch r.PathValue("method") {
		case "echo":
			answerJSON(w, map[string]any{"value": json.RawMessage(body)})
		case "void":
			w.WriteHeader(http.StatusNoContent)
		case "fail":
			answerJSON(w, map[string]any{"error": true, "message": "boom", "stack": "at line 1"})
		case "hold":
			hold(dir, attempt)
			answerJSON(w, map[string]any{"value": attempt})
		case "write": // as hold, then it writes its attempt to its state
			hold(dir, attempt)
			note(dir, "writes-"+attempt, "")
			note(dir, "wrote-"+attempt, putState(r.PathValue("id"), attempt))
			answerJSON(w, map[string]any{"value": attempt})
		case "take": // notes that it ran, how large the body was, and whether it ran before
			name := "ran-" + r.PathValue("id")
			if exists(dir, name) {
				note(dir, "again-"+r.PathValue("id"), "")
			}
			note(dir, name, strconv.Itoa(len(body)))
			w.WriteHeader(http.StatusNoContent)
		case "end":
			go func() {
				resp, err := http.Post("http://127.0.0.1:"+os.Getenv("KAR_RUNTIME_PORT")+"/kar/v1/system/shutdown", "", nil)
				if err == nil {
					_ = resp.Body.Close()
				}
			}()
			w.WriteHeader(http.StatusNoContent)
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("POST /shout", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, strings.ToUpper(string(body))+r.URL.RawQuery)
	})
	mux.HandleFunc("POST /headers", func(w http.ResponseWriter, r *http.Request) { answerJSON(w, r.Header) })
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("KAR_APP_PORT"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening", os.Getpid(), os.Getppid())
	_ = http.Serve(l, mux)
	os.Exit(1)
}

// note makes a file at once as a whole.
func note(dir, name, text string) {
	path := filepath.Join(dir, name)
	_ = os.WriteFile(path+".new", []byte(text), 0o600)
	_ = os.Rename(path+".new", path)
}

// hold says that an attempt runs, and by whom, then waits for leave.
func hold(dir, attempt string) {
	note(dir, "attempt-"+attempt, strconv.Itoa(os.Getpid()))
	for {
		if _, err := os.Stat(filepath.Join(dir, "leave")); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// putState sets the actor's key k through the sidecar and returns the status.
func putState(id, value string) string {
	url := "http://127.0.0.1:" + os.Getenv("KAR_RUNTIME_PORT") + "/kar/v1/actor/T/" + id + "/state/k"
	r, err := http.NewRequest(http.MethodPut, url, strings.NewReader(value))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	_ = resp.Body.Close()
	return strconv.Itoa(resp.StatusCode)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/kar+json")
	_ = json.NewEncoder(w).Encode(v)
}

// component starts this binary as a component and waits until it listens.
func (u *user) component(dir string, flags ...string) (p *process, app, guard int) {
	u.t.Helper()
	self, err := os.Executable()
	if err != nil {
		u.t.Fatal(err)
	}
	env := u.env
	u.env = append(env[:len(env):len(env)], "KAR_TEST_COMPONENT="+dir)
	args := append([]string{"run", "-app", "a", "-service", "s", "-actors", "T"}, flags...)
	p = u.start(append(args, "--", self)...)
	u.env = env
	p.says("listening")
	if _, err := fmt.Sscanf(p.out.String(), "listening %d %d", &app, &guard); err != nil {
		u.t.Fatal(err)
	}
	return p, app, guard
}

func (u *user) status() (s background.Status, running bool) {
	u.t.Helper()
	var got struct {
		Running bool `json:"running"`
		background.Status
	}
	out := u.kar("gateway", "status", "-o", "json").out
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		u.t.Fatalf("status is not JSON: %v\n%s", err, out)
	}
	return got.Status, got.Running
}

func awaitFile(t *testing.T, path string) string {
	t.Helper()
	eventually(t, "there is "+path, func() bool { _, err := os.Stat(path); return err == nil })
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInvokeAndRest(t *testing.T) {
	u := newUser(t)
	u.component(t.TempDir())
	for _, c := range []struct {
		args         []string
		out, errout  string
		code         int
		wholeErrorIs bool
	}{
		{args: []string{"invoke", "-app", "a", "T", "x", "echo", "1", "-2.5", "two", `{"a":[null]}`, `"3"`}, out: `[1,-2.5,"two",{"a":[null]},"3"]` + "\n"},
		{args: []string{"invoke", "-app", "a", "T", "x/ %é😀?#", "/echo"}, out: "[]\n"},
		{args: []string{"invoke", "-app", "a", "T", "x", "void"}, errout: "void result"},
		{args: []string{"invoke", "-app", "a", "T", "x", "fail"}, code: 1, errout: "Exception raised: boom\nStacktrace: at line 1\n"},
		{args: []string{"invoke", "-app", "a", "T", "x", "nope"}, code: 1, errout: "HTTP status: 404"},
		{args: []string{"invoke", "-app", "a", "-missing_component_timeout", "50ms", "Absent", "x", "m"}, code: 3, errout: "missing_component"},
		{args: []string{"rest", "-app", "a", "post", "s", "shout?q=1", "hello"}, out: "HELLOq=1\n"},
		{args: []string{"rest", "-app", "a", "get", "s", "/nope"}, code: 1, errout: "HTTP status: 404 Not Found\n404 page not found\n"},
		{args: []string{"get", "-app", "a", "-s", "sidecars"}, out: "SERVICE"},
		{args: []string{"get", "-app", "a", "-t", "T", "-i", "x"}, out: "no persisted state"},
		{args: []string{"drain", "-app", "a"}, out: "0 requests withdrawn"},
		{args: []string{"purge", "-app", "a"}, out: "purged"},
		{args: []string{"cancel", "-app", "a", "--all"}, out: "0 requests withdrawn"},
		{args: []string{"cancel", "-app", "a", "nonsense"}, code: 1, errout: "bad_id"},
	} {
		got := u.kar(c.args...)
		if got.code != c.code || !strings.Contains(got.out, c.out) || !strings.Contains(got.errout, c.errout) ||
			(c.out == "" && got.out != "") || (c.errout == "" && got.errout != "") {
			t.Errorf("kar %v: %+v", c.args, got)
		}
	}
	for _, args := range [][]string{
		{"get", "-app", "a", "-s", "sidecars"}, {"get", "-app", "a"}, {"get", "-app", "a", "-mr"}, {"get", "-app", "a", "-t", "T"},
		{"get", "-app", "a", "-t", "T", "-i", "x"}, {"service", "list", "-app", "a"}, {"gateway", "status"},
	} {
		if got := u.kar(append(args, "-o", "json")...); !json.Valid([]byte(got.out)) {
			t.Errorf("kar %v -o json: %q", args, got.out)
		}
	}
}

func TestServiceByURL(t *testing.T) {
	u := newUser(t)
	far := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "far "+r.URL.Path) })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = far.Serve(l) }()
	defer far.Close()
	if got := u.kar("service", "add", "-app", "a", "-timeout", "2s", "far", "http://"+l.Addr().String()+"/base"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := u.kar("rest", "-app", "a", "get", "far", "x"); got.code != 0 || !strings.HasPrefix(got.out, "far /base/x") {
		t.Errorf("got %+v", got)
	}
	if got := u.kar("service", "list", "-app", "a"); !strings.Contains(got.out, "far") {
		t.Errorf("got %+v", got)
	}
	if got := u.kar("service", "remove", "-app", "a", "far"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if got := u.kar("service", "remove", "-app", "a", "far"); got.code != 1 || !strings.Contains(got.errout, "not_found") {
		t.Errorf("got %+v", got)
	}
}

func TestWaitingIsSaid(t *testing.T) {
	u := newUser(t)
	p := u.start("invoke", "-app", "a", "T", "x", "echo", "1")
	p.says(`the actor type "T" of app "a", which no component offers; start one: kar run -app a -actors T -- COMMAND`)
	u.component(t.TempDir())
	if got := p.wait(); got.code != 0 || got.out != "[1]\n" {
		t.Errorf("got %+v", got)
	}
}

// TestInterruptedCallGoesOn: Ctrl-C ends the wait for a call and not the call.
func TestInterruptedCallGoesOn(t *testing.T) {
	u := newUser(t)
	p := u.start("invoke", "-app", "a", "T", "x", "record", "1")
	p.says("kar: waiting: 1 request")
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(); got.code != 130 || !strings.Contains(got.errout, "kar cancel -app a --all") {
		t.Errorf("got %+v", got)
	}
	if got := u.kar("cancel", "-app", "a", "--all"); got.code != 0 || !strings.HasPrefix(got.out, "1 request") {
		t.Errorf("the call did not go on: %+v", got)
	}
}

func TestTenCommandsStartOneGateway(t *testing.T) {
	u := newUser(t)
	var wait sync.WaitGroup
	for range 10 {
		p := u.start("get", "-app", "a", "-o", "json")
		wait.Go(func() {
			if got := p.wait(); got.code != 0 || got.out != "{}\n" {
				t.Errorf("got %+v", got)
			}
		})
	}
	wait.Wait()
	log := u.kar("gateway", "logs").out
	if n := strings.Count(log, "gateway ready"); n != 1 {
		t.Errorf("%d gateways were started:\n%s", n, log)
	}
}

func TestKilledGatewayIsFoundAgain(t *testing.T) {
	u := newUser(t)
	_, app, _ := u.component(t.TempDir())
	if got := u.kar("invoke", "-app", "a", "T", "x", "void"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for range 3 {
		s, ok := u.status()
		if !ok {
			t.Fatal("no gateway runs")
		}
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if got := u.kar("invoke", "-app", "a", "T", "x", "echo", "1"); got.code != 0 || got.out != "[1]\n" {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("the call took %v", took)
		}
	}
	if err := syscall.Kill(app, 0); err != nil {
		t.Errorf("the user's process did not survive: %v", err)
	}
}

func TestKilledComponentIsRetried(t *testing.T) {
	for _, victim := range []string{"app", "guard", "sidecar"} {
		t.Run(victim, func(t *testing.T) {
			u, dir := newUser(t), t.TempDir()
			p, app, guard := u.component(dir)
			call := u.start("invoke", "-app", "a", "T", "x", "hold")
			awaitFile(t, filepath.Join(dir, "attempt-1"))
			pid := map[string]int{"app": app, "guard": guard, "sidecar": p.cmd.Process.Pid}[victim]
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			p.wait()
			eventually(t, "the process that ran attempt 1 is gone", func() bool { return syscall.Kill(app, 0) == syscall.ESRCH })
			begin := time.Now()
			u.component(dir)
			awaitFile(t, filepath.Join(dir, "attempt-2"))
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("the retry took %v", took) // the lease alone would be 7 s
			}
			touch(t, filepath.Join(dir, "leave"))
			if got := call.wait(); got.code != 0 || got.out != "\"2\"\n" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestRunningWorkEndsBeforeTheSignal(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p, _, _ := u.component(dir, "-grace", "30s", "-v", "warning")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.says("exiting...")
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.out != "\"1\"\n" {
		t.Errorf("the call: %+v", got)
	}
	if got := p.wait(); got.code != 143 {
		t.Errorf("kar run: %+v", got)
	}
}

func TestShutdownByTheComponent(t *testing.T) {
	u := newUser(t)
	p, _, _ := u.component(t.TempDir(), "-grace", "200ms")
	if got := u.kar("invoke", "-app", "a", "T", "x", "end"); got.code != 0 {
		t.Errorf("the call: %+v", got)
	}
	if got := p.wait(); got.code != 143 {
		t.Errorf("kar run: %+v, want the end by SIGTERM of a component that does not end by itself", got)
	}
}

func TestSecondGatewayOnTheFolder(t *testing.T) {
	u := newUser(t)
	u.component(t.TempDir())
	eventually(t, "the background gateway is not idle", func() bool { s, _ := u.status(); return s.Hosts == 1 })
	got := u.kar("gateway", "--listen", "127.0.0.1:0")
	if got.code != 1 || !strings.Contains(got.errout, "in_use") {
		t.Errorf("got %+v", got)
	}
	if _, ok := u.status(); !ok {
		t.Error("the first gateway is gone")
	}
}

func TestForegroundGateway(t *testing.T) {
	u := newUser(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if got := u.kar("gateway", "--listen", address); got.code != 1 || !strings.Contains(got.errout, "port_in_use") {
		t.Errorf("a port that is taken: %+v", got)
	}
	_ = l.Close()
	u.kar("get", "-app", "a") // an idle background gateway gives way
	p := u.start("gateway", "--listen", address)
	p.says("gateway ready")
	if s, ok := u.status(); !ok || s.PID != p.cmd.Process.Pid || s.Background {
		t.Errorf("got %+v", s)
	}
	// Components of this user find it by its socket, others by its address.
	u.component(t.TempDir())
	if got := u.kar("invoke", "-app", "a", "--gateway", "http://"+address, "T", "x", "echo"); got.out != "[]\n" {
		t.Errorf("got %+v", got)
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if got := p.wait(); got.code != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestIdleGatewayStops(t *testing.T) {
	u := newUser(t, "KAR_IDLE_STOP=300ms")
	p, _, _ := u.component(t.TempDir())
	first, _ := u.status()
	// With a component it stays, however long nothing happens.
	stay := time.Now().Add(time.Second)
	eventually(t, "a second has passed", func() bool { return time.Now().After(stay) })
	if syscall.Kill(first.PID, 0) != nil {
		t.Error("the gateway stopped while a component was attached")
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait()
	eventually(t, "the gateway stops", func() bool { return syscall.Kill(first.PID, 0) == syscall.ESRCH })
	if log := u.kar("gateway", "logs").out; !strings.Contains(log, "reason=idle") {
		t.Errorf("the log does not say why:\n%s", log)
	}
}

// A gateway whose folder was removed would acknowledge into the void; it ends,
// and the next command starts one on a new folder.
func TestGatewayEndsWithItsFolder(t *testing.T) {
	u := newUser(t)
	u.kar("rest", "-app", "a", "--missing-component-timeout", "1ms", "get", "s", "x")
	s, running := u.status()
	if !running {
		t.Fatal("no gateway")
	}
	if err := os.RemoveAll(s.StateDir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway has ended", func() bool { return processGone(s.PID) })
}

// processGone tells that a process has ended, whether or not its parent has asked how.
func processGone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestStopReturnsWhenItIsGone(t *testing.T) {
	u := newUser(t)
	u.kar("get", "-app", "a")
	s, _ := u.status()
	if got := u.kar("gateway", "stop"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if !processGone(s.PID) {
		t.Error("stop returned while the gateway was there")
	}
	if got := u.kar("gateway", "status"); got.code != 4 {
		t.Errorf("got %+v", got)
	}
}

// TestColdStart is the promise of 100 ms, with room for a busy machine.
func TestColdStart(t *testing.T) {
	u := newUser(t)
	best := time.Hour
	for range 3 {
		u.kar("gateway", "stop")
		begin := time.Now()
		if got := u.kar("get", "-app", "a"); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		best = min(best, time.Since(begin))
	}
	t.Logf("from nothing to an answer: %v", best)
	if best > 500*time.Millisecond {
		t.Errorf("the best of three cold starts took %v", best)
	}
}

func TestFrozenSidecarFreezesTheComponent(t *testing.T) {
	u := newUser(t, "KAR_LEASE=2s")
	p, app, _ := u.component(t.TempDir())
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(app) + "/stat")
		_, after, _ := strings.Cut(string(b), ") ")
		return after[:min(1, len(after))]
	}
	if state() == "" {
		t.Skip("there is no /proc here")
	}
	ended := func() bool { s := state(); return s == "" || s == "Z" } // its guard may be too late to stop it first
	eventually(t, "the guard stops the component", func() bool { return state() == "T" || ended() })
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on with its sidecar, or ends with it", func() bool { return state() != "T" })
}

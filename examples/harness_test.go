package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// binaryVariable tells tests where the binary is that TestMain has built.
const binaryVariable = "KAR_TEST_BINARY"

// gatewaysVariable names the gateways of a shared mesh on which the whole
// applications are to run, instead of a local mesh of each test's own.
const gatewaysVariable = "KAR_TEST_GATEWAYS"

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	if os.Getenv(binaryVariable) == "" {
		dir, err := os.MkdirTemp("", "kar-bin-")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "kar")
		if out, err := exec.Command("go", "build", "-o", bin, "../cli/kar").CombinedOutput(); err != nil {
			fmt.Printf("building kar: %v\n%s", err, out)
			return 1
		}
		os.Setenv(binaryVariable, bin)
	}
	return m.Run()
}

// A mesh is one state folder and whatever runs on it.
type mesh struct {
	t   *testing.T
	bin string
	env []string // of every command
}

// newMesh is an empty local mesh that is gone after the test.
func newMesh(t *testing.T) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kar-ex-") // short, since a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, bin: os.Getenv(binaryVariable)}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAR_") && !strings.HasPrefix(v, "XDG_RUNTIME_DIR=") {
			m.env = append(m.env, v)
		}
	}
	m.env = append(m.env, "KAR_STATE_DIR="+filepath.Join(dir, "state"))
	if list := os.Getenv(gatewaysVariable); list != "" {
		m.env = append(m.env, "KAR_GATEWAY="+list) // a shared mesh that somebody has started
	}
	t.Cleanup(func() {
		m.kar("gateway", "stop")
		os.RemoveAll(dir)
	})
	return m
}

// kar runs a command to its end and returns what it said and its exit code.
func (m *mesh) kar(args ...string) (stdout, stderr string, code int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.bin, args...)
	cmd.Env = m.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		m.t.Fatalf("kar %s did not end\n%s%s", strings.Join(args, " "), &out, &errs)
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		m.t.Fatal(err)
	}
	return out.String(), errs.String(), code
}

// ok runs a command that must succeed and returns its output.
func (m *mesh) ok(args ...string) string {
	m.t.Helper()
	out, errs, code := m.kar(args...)
	if code != 0 {
		m.t.Fatalf("kar %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// says fails unless the output of a command contains the text.
func (m *mesh) says(text string, args ...string) {
	m.t.Helper()
	if out := m.ok(args...); !strings.Contains(out, text) {
		m.t.Fatalf("kar %s: no %q in\n%s", strings.Join(args, " "), text, out)
	}
}

// gives fails unless the output of a command is the text and nothing else.
func (m *mesh) gives(text string, args ...string) {
	m.t.Helper()
	if out := strings.TrimSuffix(m.ok(args...), "\n"); out != text {
		m.t.Fatalf("kar %s: %q, want %q", strings.Join(args, " "), out, text)
	}
}

// A component is a kar run with its process tree.
type component struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	once sync.Once
}

// An output keeps what a process has printed.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// run starts "kar run FLAGS -- COMMAND" in a folder. It is stopped after the test.
func (m *mesh) run(dir string, flags []string, command ...string) *component {
	m.t.Helper()
	args := append(append([]string{"run"}, flags...), "--")
	c := &component{t: m.t, out: &output{}, done: make(chan struct{})}
	c.cmd = exec.Command(m.bin, append(args, command...)...)
	c.cmd.Env, c.cmd.Dir = m.env, dir
	if !given(flags, "-app_port") { // other tests of this machine may sit on 8080
		c.cmd.Env = append(c.cmd.Env[:len(c.cmd.Env):len(c.cmd.Env)], "KAR_APP_PORT="+freePort(m.t))
	}
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.WaitDelay = 5 * time.Second
	if err := c.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	m.t.Cleanup(func() {
		c.stop()
		if m.t.Failed() {
			m.t.Logf("kar run %s printed:\n%s", strings.Join(flags, " "), c.out)
		}
	})
	return c
}

func given(flags []string, name string) bool {
	for _, f := range flags {
		if f == name {
			return true
		}
	}
	return false
}

// stop asks the component to end and waits for it.
func (c *component) stop() {
	c.once.Do(func() {
		c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
		case <-time.After(20 * time.Second):
			c.t.Errorf("kar run did not end within 20 s of SIGTERM:\n%s", c.out)
			c.cmd.Process.Kill()
			<-c.done
		}
	})
}

// freePort is a TCP port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// eventually waits until the check holds; what names it in the failure.
func eventually(t *testing.T, limit time.Duration, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !check(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain for %s", limit, what)
		}
	}
}

// send makes one HTTP request and returns status and body.
func send(client *http.Client, method, url string, header map[string]string, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

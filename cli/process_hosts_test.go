package cli

import (
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

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// The tests in this file are about what talks to components, on real processes.

// TestStopDeactivatesIdleActors: what an app saves when it is told that an actor
// goes is saved on a quiet stop as well.
func TestStopDeactivatesIdleActors(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p, _, _ := u.component(dir, "-grace", "1m", "-actor-collector-interval", "0")
	const actors = 12
	for n := range actors {
		if got := u.kar("invoke", "-app", "a", "T", fmt.Sprintf("saves-%d", n), "void"); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.wait()
	for n := range actors {
		if !exists(dir, fmt.Sprintf("deactivated-saves-%d", n)) {
			t.Errorf("actor %d was not deactivated", n)
		}
	}
}

// aloneComponent is a component that nobody started for `kar run`.
func (u *user) aloneComponent(dir string, flags ...string) (sidecar *process) {
	u.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		u.t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	self, err := os.Executable()
	if err != nil {
		u.t.Fatal(err)
	}
	app := exec.Command(self)
	app.Env = append(u.env[:len(u.env):len(u.env)], "KAR_TEST_COMPONENT="+dir, "KAR_APP_PORT="+port)
	if err := app.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	return u.start(append([]string{"run", "-app", "a", "-actors", "T", "-app_port", port, "-v", "warning"}, flags...)...)
}

// TestSidecarAloneEndsWithoutProof: the orderly end of a sidecar that does not own
// its component proves nothing about it, so it waits for what runs there.
func TestSidecarAloneEndsWithoutProof(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p := u.aloneComponent(dir, "-grace", "100ms")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	u.component(dir)
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.says("another signal ends at once")
	touch(t, filepath.Join(dir, "leave"))
	if got := call.wait(); got.code != 0 || got.out != "\"1\"\n" {
		t.Errorf("%+v", got)
	}
	if got := p.wait(); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if exists(dir, "attempt-2") {
		t.Error("it was run again beside itself")
	}
}

// TestSidecarAloneInHaste: a second signal ends it at once, and then it reports
// nothing; only the lease tells.
func TestSidecarAloneInHaste(t *testing.T) {
	u, dir := newUser(t, "KAR_LEASE=1m"), t.TempDir()
	p := u.aloneComponent(dir, "-grace", "1h")
	call := u.start("invoke", "-app", "a", "T", "x", "hold")
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	p.says("exiting")
	send(t, syscall.SIGTERM, p.cmd.Process.Pid)
	if got := p.wait(); got.code != 0 || !strings.Contains(got.errout, "not reported") {
		t.Errorf("%+v", got)
	}
	u.component(dir)
	// The gateway is asked after the end: another request is served, this one is not tried.
	if got := u.kar("invoke", "-app", "a", "T", "y", "echo", "1"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if exists(dir, "attempt-2") || call.out.String() != "" {
		t.Error("it was run again beside itself")
	}
	_ = call.cmd.Process.Kill()
}

// sloppyApp is a server with two common mistakes: a body behind a 204, and a length
// in characters. Everything else it does right, on the same connections.
const sloppyApp = `
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/void":
            self.send_response(204)
            self.end_headers()
            time.sleep(0.0003)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nSTOLEN" if body == b"h" else b"{}")
            return
        text = "\u00e9" * 9000 if self.path == "/chars" else body.decode()
        self.send_response(200)
        self.send_header("Content-Length", len(text))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

s = Server(("127.0.0.1", int(os.environ["KAR_APP_PORT"])), App)
print("runtime", os.environ["KAR_RUNTIME_PORT"], "up", flush=True)
s.serve_forever()
`

// TestLeftoverBytesOfAnApp: what such an app writes too much is no other call's
// answer, and it is not killed for it.
func TestLeftoverBytesOfAnApp(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	u := newUser(t)
	p := u.start("run", "-app", "a", "-service", "s", "-v", "warning", "--", python, "-c", sloppyApp)
	p.says(" up\n")
	var port int
	if _, err := fmt.Sscanf(p.out.String(), "runtime %d up", &port); err != nil {
		t.Fatal(err)
	}
	call := func(path, body string) (int, string, error) {
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/kar/v1/service/s/call/%s", port, path), "text/plain", strings.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for n := range 40 {
				bad, sent, want := "void", "", 204
				switch n % 3 {
				case 1:
					sent = "h"
				case 2:
					bad, want = "chars", 200
				}
				if status, _, err := call(bad, sent); err != nil || status != want {
					t.Errorf("%s: %d, %v", bad, status, err)
					return
				}
				mine := fmt.Sprintf("%d-%d", client, n)
				if status, got, err := call("echo", mine); err != nil || status != 200 || got != mine {
					t.Errorf("echo of %s: %d %q, %v", mine, status, got, err)
					return
				}
			}
		})
	}
	clients.Wait()
	select {
	case <-p.done:
		t.Fatalf("the component ended:\n%s", p.errout)
	default:
	}
	if !strings.Contains(p.errout.String(), "writes more than") {
		t.Errorf("nobody was told:\n%s", p.errout)
	}
}

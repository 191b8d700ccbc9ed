package cli

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// cutApp answers without a length, as HTTP/1.0 does. The process that has a first
// attempt dies in the middle of its answer; "fork" leaves that to a child, below a
// parent that stays.
const cutApp = `
import os, signal, socket, sys, time

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["KAR_APP_PORT"])))
s.listen(64)
if "fork" in sys.argv:
    while True:
        pid = os.fork()
        if pid == 0:
            break
        os.waitpid(pid, 0)
print("up", flush=True)
while True:
    c, _ = s.accept()
    f = c.makefile("rb")
    size, attempt = 0, ""
    for line in f:
        name, _, value = line.decode().strip().lower().partition(":")
        if name == "content-length":
            size = int(value)
        if name == "kar-attempt":
            attempt = value.strip()
        if not name:
            break
    f.read(size)
    if attempt:
        c.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nten ")
        if attempt == "1":
            if "slow" in sys.argv:
                time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        c.sendall(b"thousand")
    f.close()
    c.close()
`

// TestCutAnswerIsNoOutcome: an answer without a length ends with its connection, and
// so does a process that is killed.
func TestCutAnswerIsNoOutcome(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	for _, c := range []struct {
		name, args string
		deaths     int
	}{{"at once", "", 50}, {"later", "slow", 5}, {"a child", "fork slow", 5}} {
		t.Run(c.name, func(t *testing.T) {
			u := newUser(t)
			component := func() *process {
				p := u.start(append([]string{"run", "-app", "a", "-service", "s", "-v", "warning", "--", python, "-c", cutApp}, strings.Fields(c.args)...)...)
				p.says("up\n")
				return p
			}
			p := component()
			if testing.Short() {
				c.deaths = min(c.deaths, 5)
			}
			for n := range c.deaths {
				call := u.start("rest", "-app", "a", "post", "s", "x", "1")
				select {
				case <-p.done:
				case err := <-call.done:
					t.Fatalf("call %d: %v, %q\n%s", n, err, call.out, p.errout)
				}
				p = component()
				if got := call.wait(); got.code != 0 || strings.TrimSpace(got.out) != "ten thousand" {
					t.Fatalf("call %d: %+v", n, got)
				}
			}
		})
	}
}

// TestAnswersWithoutALength: an app of HTTP/1.0 is believed at once, also one
// that has a process for each connection, and nothing of it is killed.
func TestAnswersWithoutALength(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	const app = `
import http.server, os, socketserver, sys
class App(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.rfile.read(int(self.headers["Content-Length"])))
    def log_message(self, *args):
        pass
mixin = socketserver.ForkingMixIn if "fork" in sys.argv else socketserver.ThreadingMixIn
class Server(mixin, http.server.HTTPServer):
    request_queue_size = 128
s = Server(("127.0.0.1", int(os.environ["KAR_APP_PORT"])), App)
print("runtime", os.environ["KAR_RUNTIME_PORT"], "up", flush=True)
s.serve_forever()
`
	for _, kind := range []string{"thread", "fork"} {
		t.Run(kind, func(t *testing.T) {
			u := newUser(t)
			p := u.start("run", "-app", "a", "-service", "s", "-v", "warning", "--", python, "-c", app, kind)
			p.says(" up\n")
			var port int
			if _, err := fmt.Sscanf(p.out.String(), "runtime %d up", &port); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var clients sync.WaitGroup
			most := 4
			if kind == "fork" { // the parent takes a child's exit when the next request comes: see decision 19
				most = 1
			}
			for client := range most {
				clients.Go(func() {
					for n := range 25 {
						mine := fmt.Sprintf("%d-%d", client, n)
						resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/kar/v1/service/s/call/x", port), "text/plain", strings.NewReader(mine))
						if err != nil {
							t.Error(err)
							return
						}
						b, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if err != nil || string(b) != mine {
							t.Errorf("%q, %v", b, err)
						}
					}
				})
			}
			clients.Wait()
			t.Logf("%s for a call", time.Since(began)/100)
			select {
			case <-p.done:
				t.Fatalf("the component ended:\n%s", p.errout)
			default:
			}
		})
	}
}

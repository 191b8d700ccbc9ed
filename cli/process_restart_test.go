package cli

import (
	"testing"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// actorApp keeps actors in the memory of a child, as servers that reload do: the
// parent has the socket. "close" forgets its actor and answers 404, "end" ends the child.
const actorApp = `
import os, http.server
known, runs = set(), 0
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", len(body))
        self.send_header("Content-Type", "application/kar+json")
        self.end_headers()
        self.wfile.write(body)
    def do_HEAD(self):
        self.answer(200)
    def actor(self):
        return self.path.split("?")[0].split("/")[6]
    def do_GET(self):
        new = self.actor() not in known
        known.add(self.actor())
        self.answer(201 if new else 200)
    def do_DELETE(self):
        known.discard(self.actor())
        self.answer(200)
    def do_POST(self):
        global runs
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.actor() not in known:
            self.answer(404, b"no such actor")
            return
        if self.path.split("?")[0].endswith("/end"):
            self.answer(200, b'{"value":"ends"}')
            self.wfile.flush()
            os._exit(0)
        runs += 1
        if self.path.split("?")[0].endswith("/close"):
            known.discard(self.actor())
            self.answer(404, b"no such account")
            return
        self.answer(200, b'{"value":%d}' % runs)
    def log_message(self, *args):
        pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["KAR_APP_PORT"])), App)
while True:
    pid = os.fork()
    if pid == 0:
        print("up", flush=True)
        s.serve_forever()
    os.waitpid(pid, 0)
`

// TestNotFoundAfterEffects: a 404 of a method that ran is its answer, and one of a
// process that has begun since the actor was activated is not.
func TestNotFoundAfterEffects(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	u := newUser(t)
	p := u.start("run", "-app", "a", "-actors", "T", "-v", "warning", "--", python, "-c", actorApp)
	p.says("up\n")
	for _, c := range []struct {
		method, want string
	}{{"m", "1\n"}, {"close", ""}, {"m", "3\n"}, {"end", "\"ends\"\n"}, {"m", "1\n"}} {
		got := u.kar("invoke", "-app", "a", "T", "x", c.method)
		if got.out != c.want || (got.code == 0) != (c.want != "") {
			t.Errorf("%s: %+v", c.method, got)
		}
	}
}

// execApp keeps actors in its memory and puts a program in its own place: a new
// listener in the same process, or the old one, handed on.
const execApp = `
import os, socket, sys, http.server
known = set()
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", len(body))
        self.send_header("Content-Type", "application/kar+json")
        if self.path.split("?")[0].endswith("/exec"):
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
    def actor(self):
        return self.path.split("?")[0].split("/")[6]
    def do_HEAD(self):
        self.answer(200)
    def do_GET(self):
        new = self.actor() not in known
        known.add(self.actor())
        self.answer(201 if new else 200)
    def do_DELETE(self):
        known.discard(self.actor())
        self.answer(200)
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.actor() not in known:
            self.answer(404, b"no such actor")
            return
        self.answer(200, b'{"value":%d}' % os.getpid())
        if self.path.split("?")[0].endswith("/exec"):
            self.wfile.flush()
            if sys.argv[2] == "inherit":
                os.set_inheritable(s.fileno(), True)
                os.environ["LISTENER"] = str(s.fileno())
            os.environ["AGAIN"] = " again"
            os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]] + sys.argv[1:])
    def log_message(self, *args):
        pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["KAR_APP_PORT"])), App, bind_and_activate="LISTENER" not in os.environ)
if "LISTENER" in os.environ:
    s.socket.close()
    s.socket = socket.socket(fileno=int(os.environ["LISTENER"]))
print("up" + os.environ.get("AGAIN", ""), flush=True)
s.serve_forever()
`

// TestProgramPutsAnotherInItsPlace: the process stays, the actors are gone, and the
// call that finds it out runs.
func TestProgramPutsAnotherInItsPlace(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	for _, how := range []string{"new", "inherit"} {
		u := newUser(t)
		p := u.start("run", "-app", "a", "-actors", "T", "-v", "warning", "--", python, "-c", execApp, execApp, how)
		p.says("up\n")
		before := u.kar("invoke", "-app", "a", "T", "x", "m")
		if got := u.kar("invoke", "-app", "a", "T", "x", "exec"); got.code != 0 {
			t.Fatalf("%s: %+v", how, got)
		}
		p.says("up again\n")
		if got := u.kar("invoke", "-app", "a", "T", "x", "m"); got.code != 0 || got.out != before.out {
			t.Errorf("%s: got %+v, before %+v", how, got, before)
		}
	}
}

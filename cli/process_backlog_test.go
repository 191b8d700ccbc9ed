package cli

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestBacklogDoesNotEndItsComponent: more work at once than the kernel keeps
// connections for is done bit by bit, by the same process.
func TestBacklogDoesNotEndItsComponent(t *testing.T) {
	python := parts.NeedProgram(t, "python3", "python3")
	// It accepts slowly, and the kernel keeps few connections for it.
	const app = `
import http.server, os, time
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 2
    def get_request(self):
        time.sleep(0.002)
        return super().get_request()
s = Server(("127.0.0.1", int(os.environ["KAR_APP_PORT"])), App)
print("runtime", os.environ["KAR_RUNTIME_PORT"], "up", flush=True)
s.serve_forever()
`
	u := newUser(t)
	p := u.start("run", "-app", "a", "-service", "s", "-v", "warning", "--", python, "-c", app)
	p.says(" up\n")
	var port int
	if _, err := fmt.Sscanf(p.out.String(), "runtime %d up", &port); err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	for client := range 300 {
		clients.Go(func() {
			mine := fmt.Sprint(client)
			resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/kar/v1/service/s/call/x", port), "text/plain", strings.NewReader(mine))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != mine {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	clients.Wait()
	select {
	case <-p.done:
		t.Errorf("the component ended")
	default:
	}
	if said := p.errout.String(); strings.Contains(said, "does not listen") || strings.Contains(said, "killed") {
		t.Error(said)
	}
}

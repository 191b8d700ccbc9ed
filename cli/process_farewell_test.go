package cli

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFarewell: who waits for the outcome of a call when the gateway stops in an
// orderly way is told that it is not known here, and of which request.
func TestFarewell(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	p := u.start("gateway", "--listen", "127.0.0.1:0")
	p.says("gateway ready")
	_, rest, _ := strings.Cut(p.errout.String(), "http://")
	address := rest[:strings.IndexAny(rest, "]\" ")]
	u.component(dir)
	type got struct {
		answer *http.Response
		err    error
	}
	answers := make(chan got, 1)
	go func() {
		answer, err := http.Post("http://"+address+"/apps/a/kar/v1/actor/T/x/call/hold", "application/kar+json", strings.NewReader("[]"))
		answers <- got{answer, err}
	}()
	awaitFile(t, filepath.Join(dir, "attempt-1"))
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	g := <-answers
	if g.err != nil {
		t.Fatal(g.err)
	}
	defer g.answer.Body.Close()
	if h := g.answer.Header; g.answer.StatusCode != http.StatusGatewayTimeout || h.Get("Kar-Error") != "unknown_outcome" || h.Get("Kar-Request-Id") == "" {
		t.Errorf("%s %v", g.answer.Status, h)
	}
	if e := p.wait(); e.code != 0 {
		t.Errorf("the gateway: %+v", e)
	}
	touch(t, filepath.Join(dir, "leave"))
}

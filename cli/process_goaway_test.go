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

// goAwayApp closes each session after 20 requests, as servers with a limit of
// requests or of age do, and counts what runs.
const goAwayApp = `
const runs = new Map()
const server = require('http2').createServer((q, s) => {
  let body = ''
  q.on('data', b => { body += b })
  q.on('end', () => {
    if (q.url === '/runs') {
      s.end(JSON.stringify([Math.max(...runs.values()), runs.size]))
      return
    }
    runs.set(body, (runs.get(body) || 0) + 1)
    const session = s.stream.session
    session.served = (session.served || 0) + 1
    if (session.served === 20) session.close()
    setTimeout(() => s.end(body), 2)
  })
})
server.listen(process.env.KAR_APP_PORT, '127.0.0.1', () => console.log('runtime', process.env.KAR_RUNTIME_PORT, 'up'))
`

// TestGoAwayOfTheApp: an app that ends its HTTP/2 sessions gracefully, under load,
// answers each request once, and goes on.
func TestGoAwayOfTheApp(t *testing.T) {
	node := parts.NeedProgram(t, "node", "nodejs")
	u := newUser(t)
	p := u.start("run", "-app", "a", "-service", "s", "-h2c", "-v", "warning", "--", node, "-e", goAwayApp)
	p.says(" up\n")
	var port int
	if _, err := fmt.Sscanf(p.out.String(), "runtime %d up", &port); err != nil {
		t.Fatal(err)
	}
	call := func(path, body string) (string, error) {
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/kar/v1/service/s/call/%s", port, path), "text/plain", strings.NewReader(body))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	var clients sync.WaitGroup
	for client := range 16 {
		clients.Go(func() {
			for n := range 60 {
				mine := fmt.Sprint(client, " ", n)
				if got, err := call("x", mine); err != nil || got != mine {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	clients.Wait()
	if got, err := call("runs", "-"); err != nil || got != "[1,960]" {
		t.Errorf("the most that one ran, and how many: %s, %v", got, err)
	}
	if said := p.errout.String(); said != "" {
		t.Error(said)
	}
}

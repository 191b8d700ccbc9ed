package cli

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// TestNeighbourOverTheTunnel (scenario 54): a host with the token of one app
// writes what it likes as the path of a request, and reaches no other app.
func TestNeighbourOverTheTunnel(t *testing.T) {
	_, url := newUser(t, "KAR_MESH_SECRET="+meshSecret).guardedGateway()
	tokens := newUser(t)
	mine, victims := tokens.token("--app", "shop"), tokens.token("--app", "shop-prod")
	const state = "/kar/v1/actor/Acc/1/state/iban"
	if status, code, text := ask(t, "PUT", url+"/apps/shop-prod"+state, victims, `"SECRET"`); status != 201 {
		t.Fatalf("%d %s %s", status, code, text)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http")+tunnel.Path, //nolint:bodyclose // the package says it need never be closed
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + mine}}})
	if err != nil {
		t.Fatal(err)
	}
	c := tunnel.New(ws, tunnel.Limits{Message: 1 << 20})
	if _, err := c.Read(ctx); err != nil {
		t.Fatal(err)
	}
	for _, m := range []tunnel.Message{
		&tunnel.Hello{Protocol: tunnel.Protocol, Info: runtime.HostInfo{Boot: tunnel.NewBoot("shop"), App: "shop"}}, &tunnel.Joined{},
	} {
		if err := c.Write(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	up, answers, ended := make(chan struct{}), make(chan *tunnel.Response, 10), make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx, func(m tunnel.Message) {
			switch m := m.(type) {
			case *tunnel.Up:
				close(up)
			case *tunnel.Response:
				answers <- m
			}
		})
	}()
	defer func() { c.Close(); <-ended }()
	request := func(method, path string) *tunnel.Response {
		t.Helper()
		c.Send(&tunnel.Request{Seq: 1, Method: method, Path: path, Body: []byte(`"EVIL"`)})
		select {
		case r := <-answers:
			return r
		case <-ctx.Done():
			t.Fatalf("%s %q is not answered", method, path)
			return nil
		}
	}
	select {
	case <-up:
	case <-ctx.Done():
		t.Fatal("the host is not let in")
	}

	for _, path := range []string{
		"-prod" + state, "%2Dprod" + state, "-prod" + state + "?x", "/../shop-prod" + state, "/%2e%2e/shop-prod" + state,
		"/kar/v1/../../../shop-prod" + state, "/kar/v1/%2e%2e/%2e%2e/%2e%2e/shop-prod" + state, "//apps/shop-prod" + state,
		"/apps/shop-prod" + state, "http://x/apps/shop-prod" + state, "?/apps/shop-prod" + state, "#/apps/shop-prod" + state,
		"%2F..%2Fshop-prod" + state, `\..\shop-prod` + state, "\x00-prod" + state, "apps/shop-prod" + state, "", "*",
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if r := request(method, path); r.Status < 400 || strings.Contains(string(r.Body), "SECRET") {
				t.Errorf("%s %q: %d %s", method, path, r.Status, r.Body)
			}
		}
	}
	for _, path := range []string{"-prod/kar/v1/purge", "-prod/kar/v1/drain"} {
		if r := request("POST", path); r.Status < 400 {
			t.Errorf("POST %q: %d", path, r.Status)
		}
	}
	if r := request("GET", state); r.Status != 404 {
		t.Errorf("its own state: %d %s", r.Status, r.Body)
	}
	if _, _, text := ask(t, "GET", url+"/apps/shop-prod"+state, victims, ""); text != `"SECRET"` {
		t.Errorf("the neighbour has %s", text)
	}
}

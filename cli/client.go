package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/runtime"
)

// repeatFor is how long a client asks again when the gateway went away in the
// middle: a killed one is back within a second.
const repeatFor = 30 * time.Second

// A client speaks to a gateway for one application.
type client struct {
	app  string
	base string // http://… without a slash at the end
	http *http.Client
	// ensure brings the background gateway back and returns where it is; nil for a
	// gateway elsewhere.
	ensure ensurer
	at     string // the address of http

	askEvery time.Duration // 0 means the constant
}

type ensurer func(context.Context) (address string, err error)

// An answer is a complete HTTP answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// gatewayAddress is the address to dial, with the function that makes sure
// that something answers there; nil when the gateway is not ours to start.
func (p *program) gatewayAddress(ctx context.Context, c *config) (address string, ensure ensurer, err error) {
	if address = c.text("gateway"); address != "" {
		list, err := host.SplitGateways(address)
		if err != nil {
			return "", nil, runtime.Errorf(runtime.CodeBadFlag, "--gateway is %q, but must be http://host:port or unix:///path", address)
		}
		return strings.Join(list, ","), nil, nil
	}
	e, err := p.backgroundGateway(c)
	if err != nil {
		return "", nil, err
	}
	if e.Socket, err = e.Ensure(ctx); err != nil {
		return "", nil, err
	}
	return "unix://" + e.Socket, func(ctx context.Context) (string, error) {
		socket, err := e.Ensure(ctx)
		return "unix://" + socket, err
	}, nil
}

// newClient connects lazily; the gateway is made sure of first.
func (p *program) newClient(ctx context.Context, c *config) (*client, error) {
	app := c.app()
	if c.err != nil {
		return nil, c.err
	}
	address, ensure, err := p.gatewayAddress(ctx, c)
	if err != nil {
		return nil, err
	}
	access, err := accessOf(c)
	if err != nil {
		return nil, err
	}
	return clientAt(app, address, access, ensure)
}

// accessOf is what it takes to be let in by a gateway: the value of --ca is a
// file, or what is in one.
func accessOf(c *config) (host.Access, error) {
	access := host.Access{Token: strings.TrimSpace(c.text("token")), CA: c.text("ca")}
	if access.CA != "" && !strings.Contains(access.CA, "-----BEGIN") {
		pem, err := os.ReadFile(access.CA)
		if err != nil {
			return access, runtime.Errorf(runtime.CodeBadConfig, "the certificates of --ca cannot be read: %v", err)
		}
		access.CA = string(pem)
	}
	return access, nil
}

// clientAt speaks to the gateway at an address of gatewayAddress.
func clientAt(app, address string, access host.Access, ensure ensurer) (*client, error) {
	cl := &client{app: app, base: address, ensure: ensure}
	if strings.HasPrefix(address, "unix://") {
		cl.base = "http://gateway"
		cl.useSocket(address)
		return cl, nil
	}
	var err error
	if cl.base, cl.http, err = access.AnyClient(address); err != nil {
		return nil, err
	}
	cl.http.CheckRedirect = noRedirect
	return cl, nil
}

// useSocket dials the address from now on.
func (c *client) useSocket(address string) {
	if c.at == address {
		return
	}
	c.at, c.http = address, background.Client(strings.TrimPrefix(address, "unix://"))
	c.http.CheckRedirect = noRedirect
}

// noRedirect: an answer that redirects is the service's answer.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// path is the path of the app's API with escaped parts after it.
func (c *client) path(parts ...string) string {
	var b strings.Builder
	b.WriteString("/apps/" + url.PathEscape(c.app) + "/kar/v1")
	for _, part := range parts {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}

// do sends a request and repeats it when the gateway went away before it
// answered. Repeats are harmless: calls carry an Idempotency-Key, all else may
// be done twice.
func (c *client) do(ctx context.Context, method, path string, header http.Header, body []byte) (*answer, error) {
	var giveUp time.Time
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		send, keyed := c.once, header.Get("Idempotency-Key") != ""
		if keyed || method == http.MethodGet {
			send = c.ask
		}
		a, err := send(ctx, method, path, header, body)
		var closed *runtime.Error
		switch {
		case errors.As(err, &closed): // the door is, and stays so
			return nil, closed
		case err == nil && !refusedByGateway(a) && !(keyed && ofProxy(a)):
			return a, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		if err == nil && a.status == http.StatusGatewayTimeout {
			giveUp = time.Time{} // a proxy has waited for the gateway, which is as good as silence
		}
		if giveUp.IsZero() {
			giveUp = time.Now().Add(repeatFor)
		}
		if time.Now().After(giveUp) || (c.ensure == nil && absentGateway(err)) {
			if err == nil {
				return a, nil
			}
			return nil, runtime.Errorf(runtime.CodeNoGateway, "no gateway answers at %s: %v", c.base, rootCause(err))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		if c.ensure != nil {
			address, err := c.ensure(ctx)
			if err != nil {
				return nil, err
			}
			c.useSocket(address)
		}
	}
}

func (c *client) once(ctx context.Context, method, path string, header http.Header, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeBadRequest, "%v", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &answer{resp.StatusCode, resp.Header, got}, nil
}

// refusedByGateway: nothing was accepted, and asking again is right.
func refusedByGateway(a *answer) bool {
	switch runtime.Code(a.header.Get("Kar-Error")) {
	case runtime.CodeShutdown, runtime.CodeUnavailable, runtime.CodeAskAgain, runtime.CodeStoreAway:
		return true
	}
	return false
}

func absentGateway(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED)
}

// rootCause drops the URL that http.Client wraps around errors.
func rootCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// failure is the gateway's own error in an answer, nil when the answer is
// somebody else's or fine.
func (a *answer) failure() error {
	code := a.header.Get("Kar-Error")
	if code == "" {
		return nil
	}
	detail, _, _ := strings.Cut(string(a.body), "\n")
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		var problem struct{ Detail string }
		if json.Unmarshal(a.body, &problem) == nil {
			detail = problem.Detail
		}
	}
	if id := a.header.Get("Kar-Request-Id"); id != "" {
		detail += " (request " + id + ")"
	}
	return &runtime.Error{Code: runtime.Code(code), Detail: detail}
}

// manage sends a request of the routes for operators and decodes the answer into out.
func (c *client) manage(ctx context.Context, method, path string, body, out any) error {
	header := http.Header{"Accept": {"application/json, application/problem+json"}}
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
		header.Set("Content-Type", "application/json")
	}
	a, err := c.do(ctx, method, path, header, data)
	if err != nil {
		return err
	}
	if err := a.failure(); err != nil {
		return err
	}
	if a.status >= 300 {
		return runtime.Errorf(runtime.CodeBadAnswer, "the gateway answers %d to %s %s", a.status, method, path)
	}
	if out == nil || len(a.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return runtime.Errorf(runtime.CodeBadAnswer, "the gateway's answer to %s %s is not what this version expects: %v", method, path, err)
	}
	return nil
}

// callHeader are the limits of KAR 1.x and a key under which the call may be repeated.
func callHeader(c *config) http.Header {
	h := limitHeader(c)
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	h.Set("Idempotency-Key", "kar-"+hex.EncodeToString(key[:]))
	return h
}

func limitHeader(c *config) http.Header {
	h := http.Header{}
	if d := c.span("missing-component-timeout"); d > 0 {
		h.Set("Kar-Missing-Component-Timeout", d.String())
	}
	if d := c.span("actor-busy-timeout"); d > 0 {
		h.Set("Kar-Actor-Busy-Timeout", d.String())
	}
	return h
}

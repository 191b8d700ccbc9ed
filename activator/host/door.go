package host

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// Access is what it takes to be let in by a gateway on TCP. The zero value is
// enough for one without secret and TLS, and for a Unix socket.
type Access struct {
	// Token of the app, "" for none. It is sent to the gateway and nowhere else.
	Token string
	// CA has the certificates, in PEM, of who may sign the gateway's; "" means
	// those that this machine trusts.
	CA string
}

// Client is an HTTP client for the gateway at an address of [Config.Gateway].
// Requests that are refused for the token, and ends of which only one speaks
// TLS, are *runtime.Error with a code of their own.
func (a Access) Client(gateway string) (*http.Client, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, Protocols: new(http.Protocols),
		DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext, TLSHandshakeTimeout: handshake,
	}
	t.Protocols.SetHTTP1(true) // streams are upgrades of HTTP/1.1
	if path, ok := strings.CutPrefix(gateway, "unix://"); ok {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return &http.Client{Transport: t}, nil
	}
	config, err := a.TLS()
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = config
	home, err := url.Parse(gateway)
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "the gateway address is no URL")
	}
	return &http.Client{Transport: &door{scheme: home.Scheme, host: home.Host, token: a.Token, next: t}}, nil
}

// TLS is how the gateway's certificate is checked.
func (a Access) TLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(a.CA)) {
			return nil, runtime.Errorf(runtime.CodeBadConfig, "the value of --ca holds no certificate in PEM")
		}
	}
	return config, nil
}

// A door shows the token and says why it stays closed.
type door struct {
	scheme, host string // of the gateway; the token goes nowhere else
	token        string
	next         *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.token != "" && r.URL.Scheme == d.scheme && r.URL.Host == d.host {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := d.next.RoundTrip(r)
	if err != nil {
		return nil, d.explain(err)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		code := runtime.Code(resp.Header.Get("Kar-Error"))
		if code == runtime.CodeUnauthorized || code == runtime.CodeForbidden { // else it is the component's own
			return nil, runtime.Errorf(code, "%s", problemOf(resp))
		}
	case http.StatusBadRequest:
		if r.URL.Scheme == "http" && resp.ProtoMinor == 0 && wantsTLS(resp) {
			return nil, d.mismatch("speaks TLS only, and http:// asks for none")
		}
	}
	return resp, nil
}

// wantsTLS looks for what Go's server says to those who speak no TLS; there is
// no header by which to know it.
func wantsTLS(resp *http.Response) bool {
	const said = "Client sent an HTTP request to an HTTPS server."
	body := bufio.NewReaderSize(resp.Body, len(said))
	if head, err := body.Peek(len(said)); err == nil && string(head) == said {
		_ = resp.Body.Close() // nothing more is wanted of it
		return true
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return false
}

// problemOf reads and closes the answer to a request that was refused: its
// first line, or the detail of problem JSON.
func problemOf(resp *http.Response) string {
	defer func() { _ = resp.Body.Close() }() // read as far as it is wanted
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "the gateway does not let this in"
	}
	var problem struct{ Detail string }
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		return problem.Detail
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return line
}

// explain gives the ways in which TLS fails their codes.
func (d *door) explain(err error) error {
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &untrusted):
		return runtime.Errorf(runtime.CodeTLSUntrusted, "the certificate of the gateway at %s is not accepted: %v", d.host, untrusted.Err)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return d.mismatch("speaks no TLS, and https:// asks for it")
	}
	return err
}

func (d *door) mismatch(how string) error {
	return runtime.Errorf(runtime.CodeTLSMismatch, "the gateway at %s %s", d.host, how)
}

// CloseIdleConnections is what http.Client looks for.
func (d *door) CloseIdleConnections() { d.next.CloseIdleConnections() }

// NewBoot is a boot id for a host of an app.
func NewBoot(app string) string { return tunnel.NewBoot(app) }

// denial is the reason for which this host will not be let in, nil when trying
// on may help: of an end before the join, or said by the gateway after it.
func (h *Host) denial(err error) *runtime.Error {
	h.mu.Lock()
	e := h.refusal
	h.refusal = nil
	h.mu.Unlock()
	if e != nil || errors.As(err, &e) {
		switch e.Code {
		case runtime.CodeUnauthorized, runtime.CodeForbidden, runtime.CodeTLSMismatch, runtime.CodeTLSUntrusted:
			return e
		}
	}
	return nil
}

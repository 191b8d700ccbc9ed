package peer

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/karmesh/kar/gateway/doors"
	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// secret has a node prove itself by the secret of a mesh.
func secret(t *testing.T, s string) option {
	keys, err := doors.New(doors.Config{Secret: s})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config, _ *httptest.Server) {
		c.Dial = func(node string) Handshake { return keys.DialPeer(node) }
		c.Verify = keys.VerifyPeer
	}
}

func TestGatewaysProveThemselves(t *testing.T) {
	leaks(t)
	good, bad := secret(t, "0123456789abcdef"), secret(t, "fedcba9876543210")
	a, b, c, d := start(t, "a", good), start(t, "b", good), start(t, "c", bad), start(t, "d")
	a.join(t, []*node{b}, b.member())
	if r, err := a.Ask(t.Context(), "b", &engine.Op{Epoch: 5}); err != nil || string(r.Value) != "5" {
		t.Error(r, err)
	}
	for _, n := range []*node{c, d} {
		n.Connect([]kar.Member{b.member()})
		eventually(t, n.name+" is refused", func() bool { return strings.Contains(n.logged(), "cannot be reached") })
		if calls := n.sawCalls(); len(calls) > 0 {
			t.Errorf("%q", calls)
		}
		if strings.Contains(n.logged()+b.logged(), "fedcba98") {
			t.Error("a secret in the log")
		}
	}
	// The end of a process is told apart with proofs as well.
	a.Connect([]kar.Member{b.member(), {Node: "earlier", Address: b.server.URL}})
	a.until(t, "up b", "dead earlier")
	b.until(t, "up a")
}

func TestTLS(t *testing.T) {
	leaks(t)
	pool := x509.NewCertPool()
	secure := func(c *Config, s *httptest.Server) {
		c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.EnableHTTP2 = true // as a gateway's listener offers it
	}
	a, b := start(t, "a", secure), start(t, "b", secure)
	pool.AddCert(a.server.Certificate())
	pool.AddCert(b.server.Certificate())
	a.join(t, []*node{b}, b.member())
	if r, err := a.Ask(t.Context(), "b", &engine.Op{Epoch: 5, Submit: &engine.SubmitOp{Request: kar.Request{Body: make([]byte, 4<<20)}}}); err != nil || string(r.Value) != "5" {
		t.Error(r, err)
	}
	// Who does not trust the other, and who speaks plainly, is told so.
	c := start(t, "c", func(c *Config, _ *httptest.Server) {
		c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	})
	c.Connect([]kar.Member{b.member(), {Node: "plain", Address: strings.Replace(b.server.URL, "https", "http", 1)}})
	eventually(t, "c says why", func() bool {
		return strings.Contains(c.logged(), "unknown authority") && strings.Contains(c.logged(), "400")
	})
	if calls := c.sawCalls(); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}

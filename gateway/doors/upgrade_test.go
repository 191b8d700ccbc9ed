package doors

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// accepting is a gateway that serves nothing but streams of others, over TLS: it
// answers each line with who sent it.
func accepting(t *testing.T, k *Keys) (url string, client *http.Client) {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	secure, err := ServerTLS(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: secure, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		node, err := k.VerifyPeer(w, r, "node-accepter")
		if err != nil {
			w.Header().Set("Kar-Error", string(codeOf(err)))
			http.Error(w, err.Error(), codeOf(err).Status())
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "test")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, node+" said "+line)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.ServeTLS(l, "", "") }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(true)
	t.Cleanup(transport.CloseIdleConnections)
	return "https://" + l.Addr().String() + "/kar/peer", &http.Client{Transport: transport}
}

// stream dials, and says one line when it was let in.
func stream(t *testing.T, k *Keys, url string, client *http.Client) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for d := k.DialPeer("node-dialler"); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "test")
		d.Sign(req)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		switch again, err := d.Answered(resp); {
		case again:
			continue
		case err != nil:
			return "", err
		}
		if _, err := io.WriteString(resp.Body.(io.Writer), "hello\n"); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		return line, err
	}
}

func TestUpgradeOverTLS(t *testing.T) {
	url, client := accepting(t, keys(t, Config{Secret: secretA}))
	if got, err := stream(t, keys(t, Config{Secret: secretA}), url, client); err != nil || got != "node-dialler said hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
	for code, k := range map[runtime.Code]*Keys{
		runtime.CodeUnauthorized: keys(t, Config{Secret: secretB}),
		runtime.CodeClockSkew:    keys(t, Config{Secret: secretA, Now: func() time.Time { return time.Now().Add(-2 * time.Hour) }}),
	} {
		if got, err := stream(t, k, url, client); codeOf(err) != code || got != "" {
			t.Errorf("got %q, %v, want %s", got, err, code)
		}
	}
}

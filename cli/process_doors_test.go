package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

const (
	meshSecret = "a secret for tests only"
	nextSecret = "the secret that comes next"
)

// with is the same user with more in the environment.
func (u *user) with(env ...string) *user {
	more := *u
	more.env = append(u.env[:len(u.env):len(u.env)], env...)
	return &more
}

// token is what `kar token` prints.
func (u *user) token(args ...string) string {
	u.t.Helper()
	got := u.with("KAR_MESH_SECRET=" + meshSecret).kar(append([]string{"token"}, args...)...)
	if got.code != 0 || !strings.HasPrefix(got.out, "kar1.") || got.errout != "" {
		u.t.Fatalf("kar token %v: %+v", args, got)
	}
	return strings.TrimSpace(got.out)
}

// guardedGateway runs a gateway in the foreground and returns its TCP address.
func (u *user) guardedGateway(args ...string) (p *process, url string) {
	u.t.Helper()
	p = u.start(append([]string{"gateway", "-v", "debug", "--listen", "127.0.0.1:0"}, args...)...)
	p.says("gateway ready")
	url = regexp.MustCompile(`https?://[0-9.:]+`).FindString(p.errout.String())
	if url == "" {
		u.t.Fatalf("no address in %s", p.errout)
	}
	return p, url
}

// ask sends a request with a token and returns status, code and body.
func ask(t *testing.T, method, url, token, body string) (int, string, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Kar-Error"), string(text)
}

func TestGatewayWithSecret(t *testing.T) {
	owner := newUser(t, "KAR_MESH_SECRET="+meshSecret)
	gw, url := owner.guardedGateway()
	tokens := newUser(t)
	mine, other, operator := tokens.token("--app", "a"), tokens.token("--app", "b"), tokens.token("--operator")
	guest := newUser(t, "KAR_GATEWAY="+url)

	t.Run("routes", func(t *testing.T) {
		for _, c := range []struct {
			method, path, token string
			status              int
			code                string
		}{
			{"GET", "/kar/ready", "", 200, ""},
			{"GET", "/kar/health", "", 200, ""},
			{"GET", "/kar/status", "", 401, "unauthorized"},
			{"GET", "/metrics", mine, 403, "forbidden"},
			{"GET", "/metrics", operator, 200, ""},
			{"GET", "/apps/a/kar/v1/missing", "", 401, "unauthorized"},
			{"GET", "/apps/a/kar/v1/missing", "kar1.x", 401, "unauthorized"},
			{"GET", "/apps/a/kar/v1/missing", other, 403, "forbidden"},
			{"GET", "/apps/a/kar/v1/missing", mine, 200, ""},
			{"GET", "/apps/a/kar/v1/missing", operator, 200, ""},
			{"GET", "/kar/attach", "", 401, "unauthorized"},
			{"POST", "/kar/exit", "", 401, "unauthorized"},
			{"GET", "/kar/local/status", operator, 404, "not_found"}, // of the Unix socket alone
		} {
			status, code, text := ask(t, c.method, url+c.path, c.token, "")
			if status != c.status || code != c.code {
				t.Errorf("%s %s: got %d %s %s, want %d %s", c.method, c.path, status, code, text, c.status, c.code)
			}
			if code != "" && !strings.Contains(text, runtime.Code(code).Hint()) {
				t.Errorf("%s: no hint in %s", c.path, text)
			}
		}
		// In the form of the route, as all errors are.
		if _, _, text := ask(t, "GET", url+"/apps/a/kar/v1/missing", other, ""); !strings.HasPrefix(text, `{"type":"docs/errors/forbidden.md"`) {
			t.Errorf("a newer route: got %s", text)
		}
		if _, _, text := ask(t, "GET", url+"/apps/a/kar/v1/system/health", other, ""); strings.HasPrefix(text, "{") {
			t.Errorf("a route of KAR 1.x: got %s", text)
		}
	})

	t.Run("a component and its callers", func(t *testing.T) {
		dir := t.TempDir()
		c, _, _ := guest.with("KAR_TOKEN=" + mine).component(dir)
		if got := guest.with("KAR_TOKEN="+mine).kar("rest", "-app", "a", "post", "s", "shout", "hello"); got.out != "HELLO\n" {
			t.Errorf("its own token: %+v", got)
		}
		tokenDir := t.TempDir()
		write(t, filepath.Join(tokenDir, "token"), operator+"\n")
		if got := guest.kar("rest", "-config_dir", tokenDir, "-app", "a", "post", "s", "shout", "hello"); got.out != "HELLO\n" {
			t.Errorf("an operator's token from a file: %+v", got)
		}
		for code, env := range map[string][]string{
			"unauthorized": nil,
			"forbidden":    {"KAR_TOKEN=" + other},
		} {
			got := guest.with(env...).kar("rest", "-app", "a", "post", "s", "shout", "hello")
			if got.code != 1 || !strings.Contains(got.errout, "kar: "+code+": ") || got.out != "" {
				t.Errorf("%s: %+v", code, got)
			}
		}
		// The component sees what is its own of the header, and no token.
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/apps/a/kar/v1/service/s/call/headers", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, header := range []http.Header{
			{"Kar-Token": {mine}, "Authorization": {"Bearer its-own"}}, {"Authorization": {"Bearer " + mine}},
		} {
			r.Header = header.Clone()
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if want := header.Get("Kar-Token") != ""; strings.Contains(string(text), mine) || strings.Contains(string(text), "its-own") != want {
				t.Errorf("the component got %s", text)
			}
		}
		// On the socket, which is this user's alone, nobody asks.
		if got := owner.kar("rest", "-app", "a", "post", "s", "shout", "hello"); got.out != "HELLO\n" {
			t.Errorf("over the socket: %+v", got)
		}
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		c.wait()
	})

	t.Run("components that are not let in", func(t *testing.T) {
		for code, env := range map[string][]string{
			"unauthorized": nil,
			"forbidden":    {"KAR_TOKEN=" + other},
		} {
			got := guest.with(env...).kar("run", "-app", "a", "--", "sleep", "60")
			if got.code == 0 || !strings.Contains(got.errout, "kar: "+code+": ") {
				t.Errorf("%s: %+v", code, got)
			}
		}
		got := guest.with("KAR_TOKEN="+tokens.token("--app", "a", "--expires", "1s")).kar("run", "-app", "a", "--", "sleep", "1.1")
		if got.code != 0 {
			t.Errorf("let in while the token was good: %+v", got)
		}
	})

	t.Run("an expired token", func(t *testing.T) {
		short := tokens.token("--app", "a", "--expires", "1s")
		eventually(t, "it expires", func() bool {
			status, _, _ := ask(t, "GET", url+"/apps/a/kar/v1/missing", short, "")
			return status == 401
		})
		got := guest.with("KAR_TOKEN="+short).kar("get", "-app", "a")
		if got.code != 1 || !strings.Contains(got.errout, "expired at") {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("a foreign exit report", func(t *testing.T) {
		dir := t.TempDir()
		c, _, _ := guest.with("KAR_TOKEN=" + mine).component(dir)
		var boot string
		eventually(t, "the component is attached", func() bool {
			_, _, list := ask(t, "GET", url+"/apps/a/kar/v1/system/information/sidecars", mine, "")
			boot = regexp.MustCompile(`node-[0-9a-f]+`).FindString(list)
			return boot != ""
		})
		report := `{"boot":"` + boot + `","reason":"forged"}`
		if status, code, _ := ask(t, "POST", url+"/kar/exit", other, report); status != 403 || code != "forbidden" {
			t.Errorf("another app: got %d %s", status, code)
		}
		if status, _, _ := ask(t, "POST", url+"/kar/exit", "", report); status != 401 {
			t.Errorf("nobody: got %d", status)
		}
		if got := guest.with("KAR_TOKEN="+mine).kar("rest", "-app", "a", "post", "s", "shout", "still here"); got.out != "STILL HERE\n" {
			t.Errorf("after a forged report: %+v", got)
		}
		// The guard of a killed sidecar has the token and is believed.
		_ = c.cmd.Process.Kill()
		eventually(t, "the exit is heard", func() bool {
			_, _, list := ask(t, "GET", url+"/apps/a/kar/v1/system/information/sidecars", mine, "")
			return !strings.Contains(list, boot)
		})
		gw.says("the sidecar ended")
	})

	t.Run("nothing is told", func(t *testing.T) {
		_ = gw.cmd.Process.Signal(syscall.SIGTERM)
		gw.wait()
		said := gw.out.String() + gw.errout.String()
		if !strings.Contains(said, "[DEBUG]") {
			t.Errorf("the log has no debug lines, so this proves nothing:\n%s", said)
		}
		for _, secret := range []string{meshSecret, mine, other, operator, mine[len(mine)-20:]} {
			if strings.Contains(said, secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
}

func TestSidecarTellsNoToken(t *testing.T) {
	owner := newUser(t, "KAR_MESH_SECRET="+meshSecret)
	_, url := owner.guardedGateway()
	token := owner.token("--app", "a")
	guest := owner.with("KAR_GATEWAY="+url, "KAR_TOKEN="+token)
	got := guest.kar("run", "-v", "debug", "-app", "a", "--", "sh", "-c", "echo secret is ${KAR_MESH_SECRET-unset}; sleep 0.5")
	if got.code != 0 || !strings.Contains(got.out, "secret is unset") || !strings.Contains(got.errout, "[INFO]") {
		t.Errorf("got %+v", got)
	}
	if all := got.out + got.errout; strings.Contains(all, token) || strings.Contains(all, meshSecret) {
		t.Errorf("kar run tells a secret: %s", all)
	}
}

func TestSecretIsRotated(t *testing.T) {
	owner := newUser(t)
	before := owner.token("--app", "a")
	both := owner.with("KAR_MESH_SECRET=" + nextSecret + "," + meshSecret)
	gw, url := both.guardedGateway()
	after := strings.TrimSpace(both.kar("token", "-app", "a").out)
	if before == after {
		t.Fatal("the same token from another secret")
	}
	for _, token := range []string{before, after} {
		if status, _, _ := ask(t, "GET", url+"/apps/a/kar/v1/missing", token, ""); status != 200 {
			t.Errorf("got %d while both secrets are known", status)
		}
	}
	_ = gw.cmd.Process.Signal(syscall.SIGTERM)
	gw.wait()
	_, url = owner.with("KAR_MESH_SECRET=" + nextSecret).guardedGateway()
	for token, want := range map[string]int{before: 401, after: 200} {
		if status, _, _ := ask(t, "GET", url+"/apps/a/kar/v1/missing", token, ""); status != want {
			t.Errorf("got %d, want %d after the first secret was dropped", status, want)
		}
	}
}

func TestGatewayWithoutSecretStaysHere(t *testing.T) {
	u := newUser(t)
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		got := u.kar("gateway", "--listen", address)
		if got.code != 2 || !strings.Contains(got.errout, "no_secret") || !strings.Contains(got.errout, "KAR_MESH_SECRET") {
			t.Errorf("%s: %+v", address, got)
		}
	}
	// The one in the background takes its settings from elsewhere, and says the same.
	if got := u.with("KAR_LISTEN=0.0.0.0:0").kar("get", "-app", "a"); got.code == 0 || !strings.Contains(got.errout, "no_secret") {
		t.Errorf("in the background: %+v", got)
	}
	open := u.start("gateway", "--listen", "0.0.0.0:0", "--insecure")
	open.says("gateway ready")
	open.says("everybody who can reach this address may do everything")
	_ = open.cmd.Process.Signal(syscall.SIGTERM)
	open.wait()
	for _, secret := range []string{"short", meshSecret + ",short"} {
		got := u.with("KAR_MESH_SECRET="+secret).kar("gateway", "--listen", "127.0.0.1:0")
		if got.code != 2 || !strings.Contains(got.errout, "bad_config") || strings.Contains(got.errout, "short") {
			t.Errorf("secret %q: %+v", secret, got)
		}
	}
}

func TestTokenCommand(t *testing.T) {
	u := newUser(t)
	s := u.with("KAR_MESH_SECRET=" + meshSecret)
	for _, c := range []struct {
		user *user
		args []string
		says string
	}{
		{u, []string{"--app", "a"}, "no_secret"},
		{s, nil, "the application is missing"},
		{s, []string{"--app", "a", "--operator"}, "not both"},
		{s, []string{"--app", "*"}, "give --operator"},
		{s.with("KAR_APP=*"), nil, "give --operator"},
		{s, []string{"--app", "a", "--expires", "-1h"}, "--expires"},
		{u.with("KAR_MESH_SECRET=short"), []string{"--app", "a"}, "bad_config"},
	} {
		got := c.user.kar(append([]string{"token"}, c.args...)...)
		if got.code != 2 || !strings.Contains(got.errout, c.says) || got.out != "" {
			t.Errorf("kar token %v: %+v", c.args, got)
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mesh_secret"), meshSecret+"\n")
	if got := u.kar("token", "-config_dir", dir, "-app", "a"); strings.TrimSpace(got.out) != u.token("-app", "a") {
		t.Errorf("the secret from a file: %+v", got)
	}
}

// An authority signs certificates for 127.0.0.1.
type authority struct {
	t    *testing.T
	dir  string
	ca   string // file
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.ca = filepath.Join(a.dir, "ca.pem")
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "tests"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	write(t, a.ca, pemOf("CERTIFICATE", a.cert.Raw))
	return a
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) sign(c, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, by = c, key
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

// issue writes a gateway's certificate and key to the same files each time.
func (a *authority) issue() (cert, key string, made *x509.Certificate) {
	a.t.Helper()
	made, private := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, "tls.crt"), filepath.Join(a.dir, "tls.key")
	write(a.t, cert, pemOf("CERTIFICATE", made.Raw))
	write(a.t, key, pemOf("PRIVATE KEY", der))
	return cert, key, made
}

func TestGatewayWithTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.issue()
	owner := newUser(t, "KAR_MESH_SECRET="+meshSecret, "KAR_TLS_CERT="+cert, "KAR_TLS_KEY="+key)
	_, url := owner.guardedGateway()
	if !strings.HasPrefix(url, "https://") {
		t.Fatalf("it listens on %s", url)
	}
	pem, err := os.ReadFile(a.ca)
	if err != nil {
		t.Fatal(err)
	}
	token := "KAR_TOKEN=" + owner.token("--app", "a")
	guest := newUser(t, token, "KAR_CA="+a.ca, "KAR_GATEWAY="+url)
	plain := strings.Replace(url, "https", "http", 1)

	dir := t.TempDir()
	c, _, _ := guest.component(dir)
	if got := guest.kar("rest", "-app", "a", "post", "s", "shout", "hello"); got.out != "HELLO\n" {
		t.Errorf("got %+v", got)
	}
	if got := guest.with("KAR_CA="+string(pem)).kar("rest", "-app", "a", "post", "s", "shout", "hello"); got.out != "HELLO\n" {
		t.Errorf("with the text of the CA: %+v", got)
	}
	for name, bad := range map[string]struct {
		env, code string
	}{
		"no CA":             {"KAR_CA=", "tls_untrusted"},
		"another CA":        {"KAR_CA=" + newAuthority(t).ca, "tls_untrusted"},
		"a CA that is none": {"KAR_CA=" + key, "bad_config"},
		"an absent CA":      {"KAR_CA=/absent", "bad_config"},
		"no TLS":            {"KAR_GATEWAY=" + plain, "tls_mismatch"},
	} {
		for _, args := range [][]string{{"get", "-app", "a"}, {"run", "-app", "a", "--", "sleep", "60"}} {
			got := guest.with(bad.env).kar(args...)
			if got.code == 0 || !strings.Contains(got.errout, "kar: "+bad.code+": ") {
				t.Errorf("%s: kar %s: %+v", name, args[0], got)
			}
			if bad.code == "tls_mismatch" && !strings.Contains(got.errout, "https://") {
				t.Errorf("%s: no hint: %s", name, got.errout)
			}
		}
	}

	// A new certificate, without a restart; what is attached stays.
	_, _, next := a.issue()
	client, err := host.Access{CA: string(pem)}.Client(url)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate is served", func() bool {
		client.CloseIdleConnections()
		resp, err := client.Get(url + "/kar/ready")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return bytes.Equal(resp.TLS.PeerCertificates[0].Raw, next.Raw)
	})
	if got := guest.kar("rest", "-app", "a", "post", "s", "shout", "again"); got.out != "AGAIN\n" {
		t.Errorf("with the new certificate: %+v", got)
	}

	// The guard speaks TLS too.
	_, _, list := askTLS(t, client, url+"/apps/a/kar/v1/system/information/sidecars", strings.TrimPrefix(token, "KAR_TOKEN="))
	boot := regexp.MustCompile(`node-[0-9a-f]+`).FindString(list)
	_ = c.cmd.Process.Kill()
	eventually(t, "the guard's report is heard", func() bool {
		_, _, list := askTLS(t, client, url+"/apps/a/kar/v1/system/information/sidecars", strings.TrimPrefix(token, "KAR_TOKEN="))
		return boot != "" && !strings.Contains(list, boot)
	})
	client.CloseIdleConnections()

	for name, args := range map[string][]string{
		"a certificate alone": {"--tls-cert", cert, "--tls-key", ""},
		"an absent file":      {"--tls-cert", "/absent"},
	} {
		u := newUser(t, "KAR_TLS_KEY="+key)
		if got := u.kar(append([]string{"gateway", "--listen", "127.0.0.1:0"}, args...)...); got.code != 2 || !strings.Contains(got.errout, "bad_config") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	u := newUser(t)
	_, noTLS := u.guardedGateway()
	if got := guest.with("KAR_GATEWAY="+strings.Replace(noTLS, "http", "https", 1)).kar("get", "-app", "a"); !strings.Contains(got.errout, "tls_mismatch") {
		t.Errorf("https to a gateway without TLS: %+v", got)
	}
}

func askTLS(t *testing.T, client *http.Client, url, token string) (int, string, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Kar-Error"), string(text)
}

package mesh_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMeshKarSDKForNode lets the dining philosophers, written for KAR 1.x,
// dine on three gateways, of which one is killed meanwhile and one is asked to end.
func TestMeshKarSDKForNode(t *testing.T) {
	dir := philosophers(t)
	m := newMesh(t, options{})
	gs := m.three()
	at := "KAR_GATEWAY=" + strings.Join(m.urls(), ",")
	script := filepath.Join(dir, "philosophers.js")
	c := m.start([]string{at}, "run", "-app", "dp", "-actors", "Cafe,Table,Fork,Philosopher", "-app_port", freePort(t), "-v", "warning", "--", "node", script)
	invoke := func(args ...string) string {
		t.Helper()
		at := "KAR_GATEWAY=" + strings.Join(m.urls(), ",")
		p := m.start([]string{at}, append([]string{"invoke", "-app", "dp"}, args...)...)
		if code := p.code(45 * time.Second); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, p.out)
		}
		lines := strings.Split(strings.TrimSpace(p.out.String()), "\n") // before the answer it may say that it waits
		return lines[len(lines)-1]
	}
	const guests, servings = 5, 30
	if got := invoke("Cafe", "Flore", "seatTable", fmt.Sprint(guests), fmt.Sprint(servings)); got != `"Flore-1"` {
		t.Fatalf("seatTable: %q", got)
	}
	m.forget(gs[0])
	gs[0].end(syscall.SIGKILL)
	m.gateway()
	m.forget(gs[1])
	gs[1].end(syscall.SIGTERM)
	begin := time.Now()
	eventually(t, 90*time.Second, "the end of the meal", func() bool { return strings.Contains(invoke("Cafe", "Flore", "tables"), "done") })
	t.Logf("the meal ended %s after the kill", time.Since(begin).Round(time.Millisecond))
	bill := invoke("Table", "Flore-1", "bill")
	for guest := range guests {
		if want := fmt.Sprintf(`"Flore-1.%d":%d`, guest, servings); !strings.Contains(bill, want) {
			t.Errorf("no %q in %s", want, bill)
		}
	}
	if !c.running() || strings.Contains(c.out.String(), "frozen") {
		t.Errorf("the component has noticed:\n%s", c.out)
	}
}

// philosophers is the example in a folder of its own, with its packages.
func philosophers(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"node", "npm"} {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed, and CI=true", p)
			}
			t.Skipf("SKIPPED: %s is not installed, so this example was not run", p)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "philosophers.js"} {
		b, err := os.ReadFile(filepath.Join("..", "dining-philosophers", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	return dir
}

// TestMeshWithTokensAndTLS runs two gateways that prove themselves to each
// other, a component and clients with tokens; a gateway with another secret
// gets nothing and disturbs nobody.
func TestMeshWithTokensAndTLS(t *testing.T) {
	const secret = "a secret of thirty-two characters"
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	m, w := newMesh(t, options{env: []string{"KAR_CA=" + cert}}), newWitness(t)
	serve := func(secret string) *gateway {
		address := "127.0.0.1:" + freePort(t)
		g := &gateway{url: "https://" + address, process: m.start([]string{"KAR_MESH_SECRET=" + secret, "KAR_TLS_CERT=" + cert, "KAR_TLS_KEY=" + key}, "gateway", "--listen", address)}
		eventually(t, 30*time.Second, "gateway ready", func() bool { return strings.Contains(g.out.String(), "gateway ready") })
		return g
	}
	g1, g2 := serve(secret), serve(secret)
	token := func(app string) string {
		p := m.start([]string{"KAR_MESH_SECRET=" + secret}, "token", "-app", app)
		if code := p.code(10 * time.Second); code != 0 {
			t.Fatalf("kar token: %s", p.out)
		}
		return strings.TrimSpace(p.out.String())
	}
	mine, other := token("a"), token("b")
	self, err := os.Executable()
	must(t, err)
	c := m.start([]string{witnessVariable + "=" + w.path, "KAR_TOKEN=" + mine, "KAR_GATEWAY=" + g1.url + "," + g2.url},
		"run", "-app", "a", "-service", "s", "-actors", "T", "-app_port", freePort(t), "-v", "warning", "--", self)
	calls := 0
	invoke := func(g *gateway, token string) (int, string) {
		calls++
		p := m.start([]string{"KAR_TOKEN=" + token, "KAR_GATEWAY=" + g.url}, "invoke", "-app", "a", "T", fmt.Sprintf("x%d", calls), "add", fmt.Sprintf("key-%d", calls), "0")
		return p.code(30 * time.Second), p.out.String()
	}
	works := func(what string) {
		t.Helper()
		for i := range 8 { // on either side, whichever owns the actor
			if code, out := invoke([]*gateway{g1, g2}[i%2], mine); code != 0 || !strings.Contains(out, fmt.Sprintf(`"key-%d"`, calls)) {
				t.Errorf("%s: exit code %d: %s", what, code, out)
			}
		}
	}
	works("two gateways")
	for name, x := range map[string]struct{ token, says string }{
		"no token": {"", "unauthorized"}, "of another app": {other, "forbidden"}, "garbage": {mine[:len(mine)-4] + "AAAA", "unauthorized"},
	} {
		if code, out := invoke(g1, x.token); code == 0 || !strings.Contains(out, x.says) {
			t.Errorf("%s: exit code %d, want %s: %s", name, code, x.says, out)
		}
	}
	intruder := serve("another secret of thirty-two chars")
	works("while a gateway with another secret is there")
	begin := time.Now()
	intruder.end(syscall.SIGKILL)
	g2.end(syscall.SIGKILL)
	g2 = serve(secret)
	works("after a kill")
	t.Logf("eight calls, one after the other, after a kill: %s", time.Since(begin).Round(time.Millisecond))
	if !c.running() || strings.Contains(c.out.String(), "frozen") {
		t.Errorf("the component has noticed:\n%s", c.out)
	}
	for _, o := range w.seen() {
		t.Error(o)
	}
	for _, p := range []*process{g1.process, g2.process, intruder.process, c} {
		for _, text := range []string{secret, mine} {
			if strings.Contains(p.out.String(), text) {
				t.Errorf("a secret is in what %v printed", p.cmd.Args)
			}
		}
	}
}

// certificate makes one for 127.0.0.1 that vouches for itself.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

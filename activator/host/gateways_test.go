package host_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// node is one gateway of a mesh, behind a proxy.
type node struct {
	*owners
	proxy *cutter
	url   string
}

func newNode(t *testing.T, options ...func(*activator.Config)) *node {
	n := &node{owners: newOwners()}
	cfg := activator.Config{Owners: n.owners, API: http.NotFoundHandler(), Node: "gw", Lease: 2 * time.Second, Logger: logger(t)}
	for _, o := range options {
		o(&cfg)
	}
	act, err := activator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(tunnel.Path, act)
	mux.HandleFunc(tunnel.ExitPath, act.Exit)
	gw := httptest.NewServer(mux)
	n.proxy = newCutter(t, gw.Listener.Addr().String())
	n.url = "http://" + n.proxy.addr()
	t.Cleanup(func() {
		n.proxy.close()
		_ = act.Close()
		gw.Close()
	})
	return n
}

// runHost runs a host until the test ends.
func runHost(t *testing.T, gateways ...string) (*host.Host, *guard) {
	app := httptest.NewServer(newScriptApp(ok))
	t.Cleanup(app.Close)
	g := newGuard()
	cfg := host.Config{Gateway: strings.Join(gateways, ","), AppURL: app.URL, Guard: g, Logger: logger(t), Version: "test"}
	cfg.Info.Boot, cfg.Info.App, cfg.Info.Service, cfg.Info.Actors = "boot-1", "app/1", "svc", []string{"T"}
	h, err := host.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	return h, g
}

// joined waits until the host has met one of two gateways.
func joined(t *testing.T, a, b *node) (met, other *node) {
	t.Helper()
	select {
	case <-a.ups:
		return a, b
	case <-b.ups:
		return b, a
	case <-time.After(patience):
		t.Fatal("it has met none")
		panic("unreachable")
	}
}

// silentAddress takes connections and says nothing.
func silentAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

func TestNextGatewayAtOnce(t *testing.T) {
	a, b := newNode(t), newNode(t)
	_, g := runHost(t, a.url, b.url)
	met, other := joined(t, a, b)
	var took []time.Duration
	for range 7 {
		began := time.Now()
		met.proxy.cut(true)
		wait(t, "join at the other gateway", other.ups)
		took = append(took, time.Since(began))
		met.proxy.up()
		met, other = other, met
	}
	slices.Sort(took)
	t.Logf("joined at the other after %v", took)
	// The hosts of a gateway come spread over 200 ms.
	if took[3] > 250*time.Millisecond || took[6] > time.Second {
		t.Errorf("it took %v", took)
	}
	if len(g.did) != 0 {
		t.Error("the app was frozen")
	}
}

func TestGatewaysThatWereTold(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.gateways = []string{a.url, "unix:///x", "ftp://y", b.url + "/"}
	runHost(t, a.url)
	wait(t, "join", a.ups)
	a.proxy.cut(true)
	wait(t, "join at the one that was told", b.ups)
	// B tells of none: the configured one is never forgotten.
	a.proxy.up()
	b.proxy.cut(true)
	wait(t, "join at the configured one", a.ups)
}

// A gateway that joins the mesh after the host has attached is dialled when the
// others are gone.
func TestHostHearsOfLaterGateways(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	_, _ = runHost(t, a.url)
	wait(t, "join", a.ups)
	a.list(a.url, b.url)
	// The answer to the beat after the next may be on its way; the third has come behind it.
	deadline := time.After(patience)
	for before := a.asked.Load(); a.asked.Load() < before+3; {
		select {
		case <-deadline:
			t.Fatal("the gateway was not asked for its list by any beat")
		case <-time.After(5 * time.Millisecond):
		}
	}
	a.proxy.cut(true)
	wait(t, "join at the later one", b.ups)
}

func TestToldGatewaysOutOfReach(t *testing.T) {
	t.Parallel()
	a := newNode(t, func(c *activator.Config) { c.Lease = 6 * time.Second })
	for range 6 {
		a.gateways = append(a.gateways, silentAddress(t))
	}
	_, g := runHost(t, a.url)
	wait(t, "join", a.ups)
	again := func() time.Duration {
		began := time.Now()
		a.proxy.cut(false)
		wait(t, "join", a.ups)
		return time.Since(began)
	}
	// At first they may be as good as any, but not for longer than the lease.
	if took := again(); took > 4*time.Second {
		t.Errorf("joined after %s", took)
	}
	for range 3 {
		if took := again(); took > 800*time.Millisecond {
			t.Errorf("joined after %s: they were tried before the configured one", took)
		}
	}
	if len(g.did) != 0 {
		t.Error("the app was frozen")
	}
}

func TestConfiguredGatewayThatHangs(t *testing.T) {
	b := newNode(t)
	runHost(t, silentAddress(t), silentAddress(t), b.url)
	began := time.Now()
	wait(t, "join", b.ups)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("joined after %s", took)
	}
}

// TestGatewayThatStops: its connections stand, but it says nothing. There is
// another one, so the lease must not run out.
func TestGatewayThatStops(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	_, g := runHost(t, a.url, b.url)
	met, other := joined(t, a, b)
	met.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", met.answers)
	met.proxy.stop(true)
	wait(t, "join at the other gateway", other.ups)
	met.proxy.stop(false)
	none(t, "act on the app", g.did, 2500*time.Millisecond)
}

// TestConnectionThatIsLostSilently: the only address is dialled again before the
// lease runs out.
func TestConnectionThatIsLostSilently(t *testing.T) {
	t.Parallel()
	a := newNode(t)
	_, g := runHost(t, a.url)
	wait(t, "join", a.ups)
	a.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", a.answers)
	begun := time.Now()
	a.proxy.swallow()
	wait(t, "join on another connection", a.ups)
	if took := time.Since(begun); took > 1900*time.Millisecond { // the lease is 2 s
		t.Errorf("it took %s", took)
	}
	none(t, "act on the app", g.did, 2500*time.Millisecond)
}

func TestExitReportsGoToAnyGateway(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := host.ReportExit(ctx, "http://127.0.0.1:1, "+silentAddress(t)+","+b.url, host.Access{}, "other", "killed"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, "exit", b.downs); got != "other: killed" {
		t.Error(got)
	}
	// A host tells those of which it was told, too.
	a.gateways = []string{b.url}
	h, _ := runHost(t, a.url)
	wait(t, "join", a.ups)
	wait(t, "ready", h.Ready())
	a.proxy.stop(true)
	exit, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	go func() { a.proxy.cut(true) }()
	if err := h.Exit(exit, "exit code 3"); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, "exit", b.downs); got != "boot-1: exit code 3" {
		t.Error(got)
	}
}

func TestGatewayAddressesAreChecked(t *testing.T) {
	for list, want := range map[string]string{
		"http://a:1":                            "http://a:1",
		" http://a:1/ ,https://b:2,,http://a:1": "http://a:1 https://b:2",
		"unix:///run/kar":                       "unix:///run/kar",
		"unix:///run/kar,http://a:1":            "",
		"http://a:1,b:2":                        "",
		" , ":                                   "",
	} {
		got, err := host.SplitGateways(list)
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %v, %v", list, got, err)
		}
	}
}

// TestGatewayThatWaitsForOwners: it reads nothing until they have taken the
// join, or time is up. That is no reason to go elsewhere.
func TestGatewayThatWaitsForOwners(t *testing.T) {
	t.Parallel()
	short := func(c *activator.Config) { c.Lease = 500 * time.Millisecond }
	a := newNode(t, short)
	a.gateways = []string{silentAddress(t)}
	begun, slow := make(chan struct{}, 10), make(chan struct{})
	a.onUp = func(runtime.Link) {
		begun <- struct{}{}
		<-slow
	}
	runHost(t, a.url)
	wait(t, "join", begun)
	none(t, "second join", begun, 1300*time.Millisecond)
	close(slow)
	wait(t, "host", a.ups)
	none(t, "break of the stream", a.linkDown, 300*time.Millisecond)
}

// TestOneGatewayThatRefuses: another may let the host in.
func TestOneGatewayThatRefuses(t *testing.T) {
	keeper := &doorkeeper{}
	keeper.code.Store(runtime.CodeUnauthorized)
	closed := httptest.NewServer(keeper.before(http.NotFoundHandler()))
	defer closed.Close()
	b := newNode(t)
	b.proxy.cut(true)
	runHost(t, closed.URL, b.url)
	for deadline := time.Now().Add(patience); keeper.asked.Load() < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not try on")
		}
	}
	b.proxy.up()
	wait(t, "join", b.ups)
}

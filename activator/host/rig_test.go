package host_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// owners is a scripted [runtime.Owners]: it records what it is told.
type owners struct {
	mu     sync.Mutex
	epochs []runtime.PartitionEpoch
	link   runtime.Link
	beat   func() (silent []uint16, lost bool)
	upErr  error
	// onAnswer takes answers away from the channel (benchmarks).
	onAnswer func(runtime.Answer)
	onUp     func(runtime.Link)
	onDown   func()

	listing  sync.Mutex
	asked    atomic.Int32 // for the list of gateways
	gateways []string
	joins    chan join
	ups      chan up
	answers  chan runtime.Answer
	inactive chan runtime.Deactivate
	downs    chan string
	linkDown chan string
	changes  chan runtime.HostInfo
}

type join struct {
	epochs []runtime.PartitionEpoch
	answer runtime.JoinAnswer
}

type up struct {
	info runtime.HostInfo
	join runtime.JoinAnswer
}

func newOwners() *owners {
	return &owners{
		epochs: []runtime.PartitionEpoch{{Partition: 0, Epoch: 5}},
		joins:  make(chan join, 100),
		ups:    make(chan up, 100), answers: make(chan runtime.Answer, 10000), inactive: make(chan runtime.Deactivate, 100),
		downs: make(chan string, 100), linkDown: make(chan string, 100), changes: make(chan runtime.HostInfo, 100),
	}
}

func (o *owners) Epochs() []runtime.PartitionEpoch {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.epochs
}

func (o *owners) HostUp(h runtime.HostInfo, j runtime.JoinAnswer, l runtime.Link) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.upErr != nil {
		return o.upErr
	}
	o.link = l
	if o.onUp != nil {
		o.onUp(l)
	}
	o.ups <- up{h, j}
	return nil
}

func (o *owners) HostChanged(h runtime.HostInfo)             { o.changes <- h }
func (o *owners) LinkDown(boot string, _ runtime.Link)       { o.linkDown <- boot }
func (o *owners) Deactivated(_ string, m runtime.Deactivate) { o.inactive <- m }

func (o *owners) HostDown(boot, reason string) {
	o.mu.Lock()
	then := o.onDown
	o.mu.Unlock()
	if then != nil {
		then()
	}
	o.downs <- boot + ": " + reason
}

func (o *owners) Beat(string) (silent []uint16, lost bool) {
	o.mu.Lock()
	beat := o.beat
	o.mu.Unlock()
	if beat == nil {
		return nil, false
	}
	return beat()
}

func (o *owners) Answered(_ string, a runtime.Answer) {
	if o.onAnswer != nil {
		o.onAnswer(a)
		return
	}
	o.answers <- a
}

func (o *owners) setBeat(f func() (silent []uint16, lost bool)) {
	o.mu.Lock()
	o.beat = f
	o.mu.Unlock()
}

func (o *owners) send(m runtime.HostMessage) {
	o.mu.Lock()
	l := o.link
	o.mu.Unlock()
	l.Send(m)
}

func (o *owners) Gateways() []string {
	o.asked.Add(1)
	o.listing.Lock()
	defer o.listing.Unlock()
	return o.gateways
}

// list replaces the gateways that hosts are told of.
func (o *owners) list(gateways ...string) {
	o.listing.Lock()
	defer o.listing.Unlock()
	o.gateways = gateways
}

func (o *owners) Joined(_ string, _ runtime.Link, epochs []runtime.PartitionEpoch, j runtime.JoinAnswer) {
	o.joins <- join{epochs, j}
}

// guard records what it is asked to do.
type guard struct{ did chan string }

func newGuard() *guard              { return &guard{did: make(chan string, 100)} }
func (g *guard) Freeze()            { g.did <- "freeze" }
func (g *guard) Thaw()              { g.did <- "thaw" }
func (g *guard) Kill(reason string) { g.did <- "kill" }

// rig is both ends with real sockets and a real app between them.
type rig struct {
	t      testing.TB
	owners *owners
	act    *activator.Activator
	proxy  *cutter
	host   *host.Host
	app    *httptest.Server
	api    http.Handler
	ran    chan error
	guard  *guard
	unix   bool // a Unix socket without the proxy that can be cut

	mu       sync.Mutex
	released []runtime.ID
}

type option func(*rig, *activator.Config, *host.Config)

func start(t testing.TB, app http.Handler, options ...option) *rig {
	r := &rig{t: t, owners: newOwners(), ran: make(chan error, 1), guard: newGuard()}
	r.app = httptest.NewServer(app)
	t.Cleanup(r.app.Close)
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { http.Error(w, "no api", 500) })
	acfg := activator.Config{
		Owners: r.owners, Node: "gw", Version: "test", Lease: 2 * time.Second, Logger: logger(t),
		API: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.api.ServeHTTP(w, q) }),
		Release: func(_ string, ids ...runtime.ID) {
			r.mu.Lock()
			r.released = append(r.released, ids...)
			r.mu.Unlock()
		},
	}
	hcfg := host.Config{
		Info:   runtime.HostInfo{Boot: "boot-1", App: "app/1", Name: "h", Service: "svc", Actors: []string{"T"}},
		AppURL: r.app.URL, Guard: r.guard, Logger: logger(t), Version: "test",
	}
	for _, o := range options {
		o(r, &acfg, &hcfg)
	}
	var err error
	if r.act, err = activator.New(acfg); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(tunnel.Path, r.act)
	mux.HandleFunc(tunnel.ExitPath, r.act.Exit)
	gw := httptest.NewUnstartedServer(mux)
	if r.unix {
		path := socketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = gw.Listener.Close()
		gw.Listener = l
		hcfg.Gateway = "unix://" + path
	}
	gw.Start()
	r.proxy = newCutter(t, gw.Listener.Addr().String())
	if hcfg.Gateway == "" {
		hcfg.Gateway = "http://" + r.proxy.addr()
	}
	if r.host, err = host.New(hcfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.ran <- r.host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-r.ran
		_ = r.act.Close()
		gw.Close()
		r.proxy.close()
	})
	return r
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("KAR_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

// none fails when something arrives that must not; it gives it a moment.
func none[T any](t testing.TB, what string, c <-chan T, d time.Duration) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("unexpected %s: %v", what, v)
	case <-time.After(d):
	}
}

func id(n int) (id runtime.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func actorCall(n int, actorID, path, body string) *runtime.Invoke {
	return &runtime.Invoke{
		Attempt: runtime.Attempt{ID: id(n), Number: 1}, Epoch: 5,
		Target: runtime.Target{App: "app/1", Type: "T", ID: actorID}, Method: "POST", Path: path,
		Header: runtime.Header{"Kar-Request-Id": {id(n).String()}, "Kar-Attempt": {"1"}}, Body: []byte(body), Session: "f:" + id(n).String(),
	}
}

func serviceCall(n int, method, path string, body []byte) *runtime.Invoke {
	return &runtime.Invoke{
		Attempt: runtime.Attempt{ID: id(n), Number: 1}, Epoch: 5, Target: runtime.Target{App: "app/1", Service: "svc"},
		Method: method, Path: path, Header: runtime.Header{"X-Mine": {"1"}}, Body: body,
	}
}

func overUnix(r *rig, _ *activator.Config, _ *host.Config) { r.unix = true }

// cutter is a TCP proxy whose connections can be cut.
type cutter struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	open []net.Conn
	down bool
	// stopped connections stand, but nothing passes.
	stopped chan struct{} // closed when it goes on
	met     int           // connections until now
	hole    int           // of those so many forward nothing more
	wait    sync.WaitGroup
}

func newCutter(t testing.TB, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l, to: to}
	c.wait.Go(c.run)
	return c
}

func (c *cutter) addr() string { return c.l.Addr().String() }

func (c *cutter) run() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		to := c.to
		c.mu.Unlock()
		out, err := net.Dial("tcp", to)
		c.mu.Lock()
		if err != nil || c.down {
			c.mu.Unlock()
			_ = in.Close()
			continue
		}
		c.open = append(c.open, in, out)
		c.met++
		n := c.met
		c.mu.Unlock()
		c.wait.Go(func() { c.copy(in, out, n) })
		c.wait.Go(func() { c.copy(out, in, n) })
	}
}

// swallow lets nothing pass on the present connections, which nobody is told.
func (c *cutter) swallow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hole = c.met
}

func (c *cutter) copy(to, from net.Conn, number int) {
	defer func() { _ = to.Close() }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		c.mu.Lock()
		stopped, lost := c.stopped, number <= c.hole
		c.mu.Unlock()
		if lost && err == nil {
			continue
		}
		if stopped != nil {
			<-stopped
		}
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// stop lets nothing pass, or lets everything pass again.
func (c *cutter) stop(stop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case stop && c.stopped == nil:
		c.stopped = make(chan struct{})
	case !stop && c.stopped != nil:
		close(c.stopped)
		c.stopped = nil
	}
}

// up lets connections come again.
func (c *cutter) up() {
	c.mu.Lock()
	c.down = false
	c.mu.Unlock()
}

// cut breaks all connections; down keeps new ones from coming.
func (c *cutter) cut(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for _, x := range c.open {
		_ = x.Close()
	}
	c.open = nil
}

func (c *cutter) close() {
	_ = c.l.Close()
	c.stop(false)
	c.cut(true)
	c.wait.Wait()
}

// TestMain checks at the end that no goroutine was left behind.
func TestMain(m *testing.M) {
	before := goruntime.NumGoroutine()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for deadline := time.Now().Add(3 * time.Second); goruntime.NumGoroutine() > before+1 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := goruntime.NumGoroutine(); code == 0 && n > before+1 {
		buf := make([]byte, 1<<20)
		fmt.Printf("%d goroutines before, %d after the tests:\n%s\n", before, n, buf[:goruntime.Stack(buf, true)])
		code = 1
	}
	os.Exit(code)
}

// socketPath is short enough for a Unix socket.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "kar")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func body(o *runtime.Outcome) string {
	if o == nil {
		return "<nil>"
	}
	return fmt.Sprintf("%d %s", o.Status, strings.TrimSpace(string(o.Body)))
}

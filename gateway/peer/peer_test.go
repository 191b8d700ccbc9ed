package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// silence of most tests: short enough to wait for, long enough for a busy machine.
const silence = 600 * time.Millisecond

// A node is a gateway of a test. Ops are answered by answer, on the reader's goroutine.
type node struct {
	*Peers
	name   string
	server *httptest.Server
	answer func(ctx context.Context, from string, op *engine.Op, reply func(*engine.Result))

	hears func() // at the beginning of Heard

	mu    sync.Mutex
	calls []string // up x, down x, dead x
	all   []string // calls and heard
	heard []string // from and boot of host notes, in order, ops as well
	log   bytes.Buffer
}

func (n *node) Serve(ctx context.Context, from string, op *engine.Op, reply func(*engine.Result)) {
	n.mu.Lock()
	n.heard = append(n.heard, fmt.Sprint(from, " ", op.Epoch))
	n.mu.Unlock()
	if n.answer != nil {
		n.answer(ctx, from, op, reply)
		return
	}
	reply(&engine.Result{Value: fmt.Append(nil, op.Epoch)})
}

func (n *node) Heard(from string, note *engine.Note) {
	if n.hears != nil {
		n.hears()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = append(n.heard, from+" "+note.Host.Boot)
	n.all = append(n.all, from+" "+note.Host.Boot)
}

func (n *node) called(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, s)
	n.all = append(n.all, s)
}

func (n *node) PeerUp(node string)         { n.called("up " + node) }
func (n *node) PeerKnocked(string, string) {}

func (n *node) PeerDown(node string, dead bool) {
	n.called(map[bool]string{false: "down ", true: "dead "}[dead] + node)
}

func (n *node) sawCalls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

func (n *node) sawHeard() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.heard)
}

// Write is for the log.
func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func (n *node) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func (n *node) member() kar.Member { return kar.Member{Node: n.name, Address: n.server.URL} }

// at is the node as if its address were another one.
func (n *node) at(url string) kar.Member { return kar.Member{Node: n.name, Address: url} }

type option func(*Config, *httptest.Server)

func start(t testing.TB, name string, options ...option) *node {
	t.Helper()
	n := &node{name: name}
	cfg := Config{Mesh: "m", Node: name, Version: "v1", Silence: silence, Logger: slog.New(slog.NewTextHandler(n, nil))}
	mux := http.NewServeMux()
	n.server = httptest.NewUnstartedServer(mux)
	for _, o := range options {
		o(&cfg, n.server)
	}
	var err error
	if n.Peers, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	n.Start(n)
	mux.Handle(Path, n.Peers)
	if n.server.TLS == nil {
		n.server.Start()
	} else {
		n.server.StartTLS()
	}
	t.Cleanup(n.stop)
	return n
}

// stop ends it as the end of its process would.
func (n *node) stop() {
	_ = n.server.Listener.Close()
	_ = n.Close()
	n.server.Close()
}

// leaks fails the test when goroutines are left; call it first.
func leaks(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		end := time.Now().Add(5 * time.Second)
		for runtime.NumGoroutine() > before {
			if time.Now().After(end) {
				b := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func (n *node) until(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s sees %q", n.name, want), func() bool { return slices.Equal(n.sawCalls(), want) })
}

// join has n keep streams to the others, as they are seen by n, and waits for them.
func (n *node) join(t testing.TB, others []*node, members ...kar.Member) {
	t.Helper()
	for _, o := range others {
		o.Connect([]kar.Member{n.member(), o.member()})
	}
	n.Connect(members)
	for _, m := range members {
		eventually(t, n.name+" reaches "+m.Node, func() bool { return slices.Contains(n.sawCalls(), "up "+m.Node) })
	}
	for _, o := range others {
		eventually(t, o.name+" reaches "+n.name, func() bool { return slices.Contains(o.sawCalls(), "up "+n.name) })
	}
}

func boot(i int) *engine.Note { return &engine.Note{Host: &engine.HostNote{Boot: fmt.Sprint(i)}} }

func isAgain(err error) bool {
	e := (*kar.Error)(nil)
	return errors.As(err, &e) && e.Code == kar.CodeAskAgain
}

// isUnsent: without a stream certainly nothing has happened.
func isUnsent(err error) bool {
	e := (*kar.Error)(nil)
	return errors.As(err, &e) && e.Code == kar.CodeNotOwner
}

func TestOpsAndNotesKeepTheirOrder(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	a.join(t, []*node{b}, b.member())
	var wg sync.WaitGroup
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		wg.Go(func() {
			for i := range 1000 {
				if i%10 < 7 {
					way[0].Tell(way[1].name, boot(i))
				} else if r, err := way[0].Ask(t.Context(), way[1].name, &engine.Op{Epoch: uint64(i)}); err != nil || string(r.Value) != fmt.Sprint(i) {
					t.Error(r, err)
				}
			}
		})
	}
	wg.Wait()
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		heard := way[0].sawHeard()
		if len(heard) != 1000 {
			t.Fatal(len(heard))
		}
		for i, h := range heard {
			if want := fmt.Sprint(way[1].name, " ", i); h != want {
				t.Fatalf("%q, want %q", h, want)
			}
		}
	}
	if s := a.Stats(); s.Up != 1 || s.FramesOut < 1000 || s.BytesIn == 0 || s.Breaks != 0 {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentAsksGetTheirOwnAnswers(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	b.answer = func(_ context.Context, _ string, op *engine.Op, reply func(*engine.Result)) {
		running.Go(func() { // out of order
			if op.Epoch%3 == 0 {
				runtime.Gosched()
			}
			reply(&engine.Result{Value: fmt.Append(nil, op.Epoch)})
			reply(&engine.Result{Value: []byte("a second answer")})
		})
	}
	a.join(t, []*node{b}, b.member())
	var wg sync.WaitGroup
	for k := range 64 {
		wg.Go(func() {
			for i := range 100 {
				n := uint64(k*1000 + i)
				if r, err := a.Ask(t.Context(), "b", &engine.Op{Epoch: n}); err != nil || string(r.Value) != fmt.Sprint(n) {
					t.Error(n, r, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestWithoutAStreamTheAnswerComesAtOnce(t *testing.T) {
	leaks(t)
	a := start(t, "a")
	if r, err := a.Ask(t.Context(), "b", &engine.Op{}); r != nil || !isUnsent(err) {
		t.Error(r, err)
	}
	a.Tell("b", boot(1))
}

func TestCancelReachesTheOtherEnd(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	type served struct {
		ctx   context.Context
		reply func(*engine.Result)
	}
	ops := make(chan served, 2)
	b.answer = func(ctx context.Context, _ string, op *engine.Op, reply func(*engine.Result)) {
		if op.Epoch == 0 {
			reply(&engine.Result{Open: true})
			return
		}
		ops <- served{ctx, reply}
	}
	a.join(t, []*node{b}, b.member())
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { _, err := a.Ask(ctx, "b", &engine.Op{Epoch: 1}); gaveUp <- err }()
	first := <-ops
	answered := make(chan *engine.Result, 1)
	go func() { r, _ := a.Ask(t.Context(), "b", &engine.Op{Epoch: 2}); answered <- r }()
	second := <-ops
	cancel()
	if err := <-gaveUp; !isAgain(err) {
		t.Error(err)
	}
	<-first.ctx.Done()
	first.reply(&engine.Result{Open: true}) // too late
	if second.ctx.Err() != nil {
		t.Error("the cancel reached another op")
	}
	second.reply(&engine.Result{Value: []byte("second")})
	if r := <-answered; r == nil || string(r.Value) != "second" {
		t.Error(r)
	}
	if second.ctx.Err() != nil {
		t.Error("an answered op was cancelled")
	}
	if r, err := a.Ask(t.Context(), "b", &engine.Op{}); err != nil || !r.Open {
		t.Error(r, err)
	}
}

// A link is a TCP proxy that can be cut and frozen.
type link struct {
	l      net.Listener
	frozen atomic.Bool
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
	wg     sync.WaitGroup
}

func (n *node) behind(t testing.TB) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{l: l}
	target := n.server.Listener.Addr().String()
	k.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", target)
			if err != nil {
				_ = c.Close()
				continue
			}
			k.mu.Lock()
			k.conns = append(k.conns, c, d)
			if k.closed {
				_, _ = c.Close(), d.Close()
			}
			k.mu.Unlock()
			k.wg.Go(func() { k.copy(c, d) })
			k.wg.Go(func() { k.copy(d, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		k.mu.Lock()
		k.closed = true
		k.mu.Unlock()
		k.cut()
		k.wg.Wait()
	})
	return k
}

func (k *link) url() string { return "http://" + k.l.Addr().String() }

// copy swallows what comes while the link is frozen.
func (k *link) copy(dst, src net.Conn) {
	defer func() { _ = dst.Close(); _ = src.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := src.Read(b)
		if err == nil && !k.frozen.Load() {
			_, err = dst.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.Close()
	}
	k.conns = nil
}

func TestBrokenStreamLosesNoAskSilently(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	k := b.behind(t)
	served := make(chan context.Context, 64)
	b.answer = func(ctx context.Context, _ string, _ *engine.Op, _ func(*engine.Result)) { served <- ctx }
	a.join(t, []*node{b}, b.at(k.url()))
	errs := make(chan error, 64)
	for range 64 {
		go func() { _, err := a.Ask(t.Context(), "b", &engine.Op{}); errs <- err }()
	}
	ctxs := []context.Context{}
	for range 64 {
		ctxs = append(ctxs, <-served)
	}
	k.cut()
	for range 64 {
		if err := <-errs; !isAgain(err) {
			t.Error(err)
		}
	}
	for _, ctx := range ctxs {
		<-ctx.Done()
	}
	a.until(t, "up b", "down b", "up b")
	if a.Stats().Breaks != 1 {
		t.Errorf("%+v", a.Stats())
	}
}

// TestBreaksUnderLoad: whenever the link is cut, every ask returns.
func TestBreaksUnderLoad(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	k := b.behind(t)
	a.join(t, []*node{b}, b.at(k.url()))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var good, bad atomic.Int64
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := a.Ask(t.Context(), "b", &engine.Op{Epoch: 9})
				switch {
				case err == nil && string(r.Value) == "9":
					good.Add(1)
				case isAgain(err) || isUnsent(err):
					bad.Add(1)
					runtime.Gosched()
				default:
					t.Error(r, err)
				}
			}
		})
	}
	for i := range 10 {
		after := good.Load() + 20
		eventually(t, fmt.Sprint("answers after cut ", i), func() bool { return good.Load() > after })
		k.cut()
	}
	cancel()
	wg.Wait()
	if bad.Load() == 0 {
		t.Error("nothing was cut")
	}
	calls := a.sawCalls()
	for i, c := range calls {
		if want := []string{"up b", "down b"}[i%2]; c != want {
			t.Fatalf("%q", calls)
		}
	}
}

func TestProcessGoneIsDead(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	a.join(t, []*node{b}, b.member())
	b.stop()
	a.until(t, "up b", "down b", "dead b")
	a.until(t, "up b", "down b", "dead b")
	// Never up: it is told as well, once.
	c := start(t, "c")
	c.Connect([]kar.Member{b.member()})
	c.until(t, "dead b")
	if e := c.logged(); !strings.Contains(e, "the gateway has ended") {
		t.Error(e)
	}
}

// TestSilentIsDownButNotDead: as when a process is stopped or a network cut.
func TestSilentIsDownButNotDead(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	k := b.behind(t)
	a.join(t, []*node{b}, b.at(k.url()))
	held := make(chan context.Context, 1)
	b.answer = func(ctx context.Context, _ string, _ *engine.Op, _ func(*engine.Result)) { held <- ctx }
	asked := make(chan error, 1)
	go func() { _, err := a.Ask(t.Context(), "b", &engine.Op{}); asked <- err }()
	ctx := <-held
	began := time.Now()
	k.frozen.Store(true)
	a.until(t, "up b", "down b")
	if d := time.Since(began); d < silence/2 || d > 4*silence {
		t.Errorf("down after %s", d)
	}
	if err := <-asked; !isAgain(err) {
		t.Error(err)
	}
	<-ctx.Done() // the other end finds out as well
	time.Sleep(2 * silence)
	a.until(t, "up b", "down b") // dials that get no answer are no proof
	k.frozen.Store(false)
	a.until(t, "up b", "down b", "up b")
}

func TestIdleStreamStays(t *testing.T) {
	leaks(t)
	quick := func(c *Config, _ *httptest.Server) { c.Silence = 200 * time.Millisecond }
	a, b := start(t, "a", quick), start(t, "b", quick)
	a.join(t, []*node{b}, b.member())
	time.Sleep(time.Second)
	a.until(t, "up b")
}

func TestMemberThatIsNoLongerListed(t *testing.T) {
	leaks(t)
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	a.join(t, []*node{b, c}, b.member(), c.member())
	a.mu.Lock()
	a.calls = nil
	a.mu.Unlock()
	a.Connect([]kar.Member{c.member()})
	a.until(t, "down b")
	for range 20 { // in a hurry
		a.Connect([]kar.Member{c.member(), b.member()})
		a.Connect([]kar.Member{c.member()})
	}
	a.Connect([]kar.Member{c.member(), b.member()})
	eventually(t, "a reaches b", func() bool { _, err := a.Ask(t.Context(), "b", &engine.Op{}); return err == nil })
	for i, call := range a.sawCalls() {
		if want := []string{"down b", "up b"}[i%2]; call != want {
			t.Fatalf("%q", a.sawCalls())
		}
	}
	if _, err := a.Ask(t.Context(), "c", &engine.Op{}); err != nil {
		t.Error(err)
	}
}

func TestMemberWithANewAddress(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	k := b.behind(t)
	a.join(t, []*node{b}, b.at(k.url()))
	a.Connect([]kar.Member{b.member()})
	a.until(t, "up b") // what stands stays
	_ = k.l.Close()
	k.cut()
	a.until(t, "up b", "down b", "up b")
}

// raw dials b as the node x does, outside of any Peers of x.
func (n *node) raw(t *testing.T, x string) *stream {
	t.Helper()
	p, err := New(Config{Mesh: "m", Node: x, Silence: n.cfg.Silence})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.dial(t.Context(), &member{node: n.name, address: n.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLaterConnectionReplacesTheEarlier: what comes over one of them lies
// between one PeerUp and its PeerDown, and never after what a later one brings.
func TestLaterConnectionReplacesTheEarlier(t *testing.T) {
	leaks(t)
	b, x := start(t, "b"), start(t, "x")
	b.Connect([]kar.Member{x.member()}) // x itself does not dial
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(b.stop)
	for k := range 8 {
		s := b.raw(t, "x")
		wg.Go(func() { _ = s.run(s.answered) })
		for i := range 200 {
			_ = s.send(&frame{Note: boot(k*1000 + i)}) // it may have been broken with the one before
		}
		if k%2 == 0 {
			first := fmt.Sprint("x ", k*1000)
			eventually(t, "a note", func() bool { return slices.Contains(b.sawHeard(), first) || s.broken() != nil })
		}
	}
	eventually(t, "the last note", func() bool {
		s := b.raw(t, "x")
		wg.Go(func() { _ = s.run(s.answered) })
		_ = s.send(&frame{Note: boot(9000)})
		for s.broken() == nil && !slices.Contains(b.sawHeard(), "x 9000") {
			time.Sleep(time.Millisecond)
		}
		return slices.Contains(b.sawHeard(), "x 9000")
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	before, up, from := -1, false, -1
	for _, what := range b.all {
		var i int
		switch _, err := fmt.Sscanf(what, "x %d", &i); {
		case err == nil && (!up || i <= before || from >= 0 && i/1000 != from):
			t.Fatalf("%q after %d, up is %t", what, before, up)
		case err == nil:
			before, from = i, i/1000
		case up == (what == "up x"):
			t.Fatalf("%q twice", what)
		default:
			up, from = !up, -1
		}
	}
	t.Logf("%d of 1601 notes came, in order", len(b.heard))
}

// TestNothingIsHeardAfterPeerDown: not even what was on its way.
func TestNothingIsHeardAfterPeerDown(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	k := b.behind(t)
	b.hears = func() {
		k.cut()
		eventually(t, "b sees the break", func() bool { return b.to("a") == nil })
		time.Sleep(50 * time.Millisecond) // for a PeerDown that does not wait
	}
	a.join(t, []*node{b}, b.at(k.url()))
	a.Tell("b", boot(1))
	b.until(t, "up a", "down a", "up a")
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := []string{"up a", "a 1", "down a", "up a"}; !slices.Equal(b.all, want) {
		t.Errorf("%q, want %q", b.all, want)
	}
}

// TestBothSeeEveryBreak: whichever connection breaks, at whichever moment, both
// gateways see the stream break, and what each tells first on a stream arrives.
func TestBothSeeEveryBreak(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	ka, kb := a.behind(t), b.behind(t)
	a.Connect([]kar.Member{b.at(kb.url())})
	b.Connect([]kar.Member{a.at(ka.url())})
	ups := func(n *node) (ups int) {
		for _, c := range n.sawCalls() {
			if strings.HasPrefix(c, "up") {
				ups++
			}
		}
		return ups
	}
	for i := range 12 {
		eventually(t, fmt.Sprint("both ask after break ", i), func() bool {
			_, e1 := a.Ask(t.Context(), "b", &engine.Op{})
			_, e2 := b.Ask(t.Context(), "a", &engine.Op{})
			return e1 == nil && e2 == nil
		})
		before := [2]int{ups(a), ups(b)}
		[]*link{ka, kb}[i%2].cut()
		eventually(t, fmt.Sprint("both see break ", i), func() bool { return ups(a) > before[0] && ups(b) > before[1] })
	}
	for _, n := range []*node{a, b} {
		for i, c := range n.sawCalls() {
			if strings.HasPrefix(c, "up") != (i%2 == 0) || strings.HasPrefix(c, "dead") {
				t.Fatalf("%q", n.sawCalls())
			}
		}
	}
}

// TestOneSidedListIsNoStream, and says so.
func TestOneSidedListIsNoStream(t *testing.T) {
	leaks(t)
	quick := func(c *Config, _ *httptest.Server) { c.Silence, c.Address = 100*time.Millisecond, "http://here" }
	knocks := make(chan string, 100)
	a, b := start(t, "a", quick), start(t, "b", quick, func(c *Config, _ *httptest.Server) {
		c.Knocked = func(node, address string) { knocks <- node + " " + address }
	})
	a.Connect([]kar.Member{b.member()})
	if k := <-knocks; k != "a http://here" {
		t.Error(k)
	}
	eventually(t, "a says why", func() bool { return strings.Contains(a.logged(), "does not dial this one") })
	if _, err := a.Ask(t.Context(), "b", &engine.Op{}); !isUnsent(err) {
		t.Error(err)
	}
	if len(a.sawCalls())+len(b.sawCalls()) > 0 {
		t.Errorf("%q %q", a.sawCalls(), b.sawCalls())
	}
	b.Connect([]kar.Member{a.member()})
	a.until(t, "up b")
	b.until(t, "up a")
}

func TestForeignMeshIsRefusedByName(t *testing.T) {
	leaks(t)
	a := start(t, "a", func(c *Config, _ *httptest.Server) { c.Mesh = "other" })
	b := start(t, "b")
	a.Connect([]kar.Member{b.member()})
	eventually(t, "a says why", func() bool { return strings.Contains(a.logged(), `of the mesh \"m\", not of \"other\"`) })
	if calls := a.sawCalls(); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
	if s := b.Stats(); s.Refused == 0 || s.Up != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOtherProcessAtTheAddress(t *testing.T) {
	leaks(t)
	a, b := start(t, "a"), start(t, "b")
	a.Connect([]kar.Member{{Node: "earlier", Address: b.server.URL}})
	a.until(t, "dead earlier")
	if len(b.sawHeard()) > 0 || b.Stats().BytesIn != 0 {
		t.Error("the stream was let in")
	}
	// What is no gateway proves nothing.
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	c := start(t, "c")
	c.Connect([]kar.Member{{Node: "x", Address: web.URL}, {Node: "y", Address: "nonsense"}})
	eventually(t, "c says why", func() bool { return strings.Contains(c.logged(), "404") && strings.Contains(c.logged(), "nonsense") })
	if calls := c.sawCalls(); len(calls) > 0 {
		t.Errorf("%q", calls)
	}
}

func TestLargeFrames(t *testing.T) {
	leaks(t)
	limit := func(c *Config, _ *httptest.Server) { c.FrameLimit = 10 << 20; c.Silence = 5 * time.Second }
	a, b := start(t, "a", limit), start(t, "b", limit)
	b.answer = func(_ context.Context, _ string, op *engine.Op, reply func(*engine.Result)) {
		reply(&engine.Result{Value: bytes.Repeat([]byte("y"), int(op.Epoch))})
	}
	a.join(t, []*node{b}, b.member())
	op := func(send, get int) *engine.Op {
		return &engine.Op{Epoch: uint64(get), Submit: &engine.SubmitOp{Request: kar.Request{Body: make([]byte, send)}}}
	}
	if r, err := a.Ask(t.Context(), "b", op(8<<20, 8<<20)); err != nil || len(r.Value) != 8<<20 {
		t.Fatal(err)
	}
	if r, err := a.Ask(t.Context(), "b", op(11<<20, 1)); err != nil || r.Err == nil || r.Err.Code != kar.CodeTooLarge {
		t.Fatal(r, err)
	}
	if r, err := a.Ask(t.Context(), "b", op(1, 11<<20)); err != nil || r.Err == nil || r.Err.Code != kar.CodeResultTooLarge {
		t.Fatal(r, err)
	}
	a.Tell("b", &engine.Note{Host: &engine.HostNote{Boot: strings.Repeat("x", 11<<20)}})
	if !strings.Contains(a.logged(), "too large") {
		t.Error("a lost note was not told")
	}
	a.until(t, "up b")
}

// TestSlowReaderBlocksNobodyElse: a gateway that takes nothing, but is not silent.
func TestSlowReaderBlocksNobodyElse(t *testing.T) {
	leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				b := make([]byte, 1)
				for tail := ""; !strings.HasSuffix(tail, "\r\n\r\n"); tail += string(b) {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
				_, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nKar-Node: slow\r\n\r\n")
				for err == nil { // alive, but reads nothing
					select {
					case <-done:
						return
					case <-time.After(silence / 4):
						_, err = c.Write(make([]byte, headSize))
					}
				}
			})
		}
	})
	t.Cleanup(func() { close(done); _ = l.Close(); wg.Wait() })
	patient := func(c *Config, _ *httptest.Server) { c.QueueLimit = 32 << 20; c.Silence = 5 * time.Second }
	a, b := start(t, "a", patient), start(t, "b", patient)
	s := a.raw(t, "slow")
	wg.Go(func() { _ = s.run(s.answered) })
	a.join(t, []*node{b}, b.member(), kar.Member{Node: "slow", Address: "http://" + l.Addr().String()})
	worst := time.Duration(0)
	note := &engine.Note{Host: &engine.HostNote{Boot: strings.Repeat("x", 256<<10)}}
	for i := 0; !slices.Contains(a.sawCalls(), "down slow"); i++ {
		a.Tell("slow", note)
		began := time.Now()
		if _, err := a.Ask(t.Context(), "b", &engine.Op{}); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
		if i > 1000 {
			t.Fatal("more waits than the limit allows")
		}
	}
	t.Logf("worst of the others: %s", worst)
	if worst > silence {
		t.Errorf("another gateway waited %s", worst)
	}
	if !strings.Contains(a.logged(), "does not read, too much is waiting") {
		t.Error(a.logged())
	}
}

// TestGarbageBreaksItsStreamOnly, without room being made for what it claims.
func TestGarbageBreaksItsStreamOnly(t *testing.T) {
	leaks(t)
	a, b, x := start(t, "a"), start(t, "b"), start(t, "x")
	a.join(t, []*node{b}, b.member())
	b.Connect([]kar.Member{a.member(), x.member()})
	for i, garbage := range [][]byte{
		{0xff, 0xff, 0xff, 0xff, 1},
		{0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff},
		append([]byte{0, 0, 0, 9}, append(tag("Op"), 0xff, 0xff, 0xff, 0xff, 0x7f)...),
		frameBytes(t, &frame{Seq: 1, Result: &engine.Result{}}), // only asked ones answer
		append(frameBytes(t, &frame{Seq: 1, Op: &engine.Op{Epoch: 77}}), frameBytes(t, &frame{Seq: 1, Op: &engine.Op{Epoch: 77}})...),
	} {
		if i == 4 {
			b.mu.Lock()
			b.answer = func(context.Context, string, *engine.Op, func(*engine.Result)) {} // both are open
			b.mu.Unlock()
		}
		s := b.raw(t, "x")
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		if _, err := s.conn.Write(garbage); err != nil {
			t.Fatal(err)
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, s.conn); errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(net.Error)) && isTimeout(err) {
			t.Errorf("garbage %d: the stream stands", i)
		}
		runtime.ReadMemStats(&m1)
		if d := m1.TotalAlloc - m0.TotalAlloc; d > 16<<20 {
			t.Errorf("garbage %d: %d bytes were allocated", i, d)
		}
		_ = s.conn.Close()
	}
	a.until(t, "up b")
}

func isTimeout(err error) bool {
	e := net.Error(nil)
	return errors.As(err, &e) && e.Timeout()
}

func frameBytes(t *testing.T, f *frame) []byte {
	b, err := format(t).put(nil, f, maxFrame)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlainRequestsAreRefused(t *testing.T) {
	leaks(t)
	b := start(t, "b")
	for _, change := range []func(http.Header){
		func(h http.Header) { h.Del("Upgrade") },
		func(h http.Header) { h.Set(protocolHeader, "99") },
		func(h http.Header) { h.Set(nodeHeader, "b") },
		func(h http.Header) { h.Del(nodeHeader) },
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.server.URL+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", upgradeTo)
		r.Header.Set(nodeHeader, "x")
		hello{"m", protocol, "v", "b", ""}.put(r.Header)
		change(r.Header)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || resp.Header.Get("Kar-Error") == "" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, Path, nil) // from 192.0.2.1
	r.Header.Set("Upgrade", upgradeTo)
	hello{"m", protocol, "v", "b", ""}.put(r.Header)
	b.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("from another machine, without a proof: %d", w.Code)
	}
}

func BenchmarkAsk(b *testing.B) {
	for _, askers := range []int{1, 128} {
		b.Run(fmt.Sprint(askers), func(b *testing.B) {
			long := func(c *Config, _ *httptest.Server) { c.Silence = time.Minute; c.Logger = nil }
			x, y := start(b, "x", long), start(b, "y", long)
			defer x.stop()
			defer y.stop()
			body := sampleOp().Op
			answer := sampleResult().Result
			y.Peers.mu.Lock()
			y.Peers.handler = &echo{y, answer}
			y.Peers.mu.Unlock()
			x.join(b, []*node{y}, y.member())
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for range askers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := x.Ask(b.Context(), "y", body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

type echo struct {
	*node
	r *engine.Result
}

func (e *echo) Serve(_ context.Context, _ string, _ *engine.Op, reply func(*engine.Result)) {
	reply(e.r)
}

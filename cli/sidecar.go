package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/cli/guard"
	"github.com/karmesh/kar/gateway"
	"github.com/karmesh/kar/runtime"
)

// A sidecar is the first process of `kar run`: it serves the API to the
// component, attaches to a gateway, and watches the guard.
type sidecar struct {
	p       *program
	spec    runSpec
	log     *slog.Logger
	host    *host.Host
	boot    string
	gateway string
	access  host.Access

	listener    net.Listener
	server      *http.Server
	signals     *signals
	prefix      *prefixer
	waiting     *waitingLog
	portLock    io.Closer // keeps the component's port from other `kar run`; nil without
	portTaken   sync.Once // it was said
	outsideOnce sync.Once
	deniedOnce  sync.Once
	told        bool          // a signal asked for the end
	shutdown    chan struct{} // closed when the component asked for the end

	mu    sync.Mutex
	child *guard.Child // nil before the start, and without a command

	ctx    context.Context // of all goroutines below
	cancel context.CancelFunc
	wait   sync.WaitGroup
	ended  chan error // the host's end, when it comes by itself

	turns     chan time.Duration // boot times at which the host's loop came round
	hostEnded chan struct{}
}

// newSidecar opens what can fail before the component is started.
func (p *program) newSidecar(ctx context.Context, c *config, s runSpec) (*sidecar, error) {
	side := &sidecar{
		p: p, spec: s, boot: host.NewBoot(s.app),
		log:      newLogger(p.errout, s.verbose.level()),
		shutdown: make(chan struct{}),
		ended:    make(chan error, 1),
		turns:    make(chan time.Duration, 1), hostEnded: make(chan struct{}),
	}
	side.ctx, side.cancel = context.WithCancel(ctx)
	side.signals = catchSignals()
	address, ensure, err := p.gatewayAddress(ctx, c)
	if err != nil {
		return nil, errors.Join(err, side.close())
	}
	side.gateway = address
	if side.access, err = accessOf(c); err != nil {
		return nil, errors.Join(err, side.close())
	}
	if err := side.ports(); err != nil {
		return nil, errors.Join(err, side.close())
	}
	client, err := clientAt(s.app, address, side.access, ensure)
	if err != nil {
		return nil, errors.Join(err, side.close())
	}
	side.waiting = &waitingLog{
		client: client,
		out:    p.errout, ctx: side.ctx, said: map[string]time.Time{},
	}
	header := runtime.Header(limitHeader(c))
	if s.cancel {
		header["Kar-Cancel-With-Caller"] = []string{"true"}
	}
	config := host.Config{
		Info: runtime.HostInfo{
			Boot: side.boot, App: s.app, Name: hostName(),
			Service: s.service, Actors: s.actors,
			Port: side.spec.runtimePort, Idle: s.idle.Milliseconds(),
		},
		Gateway: address, Access: side.access, Ensure: ensure,
		AppURL: "http://127.0.0.1:" + strconv.Itoa(side.spec.appPort), H2C: s.h2c,
		OnShutdown:    func() { close(side.shutdown) },
		OnWaiting:     func(runtime.Target, time.Duration) { side.waiting.note() },
		OnTurn:        side.turned,
		Witness:       side,
		DefaultHeader: header, Version: p.version, Logger: side.log,
	}
	if len(s.command) > 0 {
		config.Guard, config.Foreign = side, side.foreign
	}
	if side.host, err = host.New(config); err != nil {
		return nil, errors.Join(err, side.close())
	}
	return side, nil
}

// ports opens the API's port and settles the component's.
func (s *sidecar) ports() error {
	ip := "127.0.0.1"
	if s.spec.allInterfaces {
		ip = ""
	}
	l, err := listen(net.JoinHostPort(ip, strconv.Itoa(s.spec.runtimePort)))
	if err != nil {
		return err
	}
	s.listener = l
	s.spec.runtimePort = l.Addr().(*net.TCPAddr).Port
	switch {
	case len(s.spec.command) == 0: // somebody else's process, which may listen already
	case !s.spec.portAsked:
		var lock io.Closer
		if s.spec.appPort, lock, err = appPort(s.spec.appPort); err != nil {
			return err
		}
		switch {
		case lock == nil:
		case s.spec.offers():
			s.portLock = lock
		default: // a client: it need not listen, and keeps nobody else from it
			_ = lock.Close()
		}
	case s.spec.offers():
		// Whoever listens there would get the component's calls, and the end of the
		// command would prove nothing about what it does with them.
		lock, mine := reserve(s.spec.appPort)
		s.portLock = lock
		if !mine || !free("127.0.0.1", s.spec.appPort) {
			return runtime.Errorf(runtime.CodePortInUse, "port %d of the component belongs to another process; for a component that runs already, leave out the command", s.spec.appPort)
		}
	}
	return nil
}

// start serves the API, starts the component, and attaches.
func (s *sidecar) start() error {
	s.server = gateway.NewServer(s.host.Handler(), s.log)
	s.wait.Go(func() { _ = s.server.Serve(s.listener) })
	if len(s.spec.command) > 0 {
		if err := s.launch(); err != nil {
			return err
		}
	}
	s.log.Info("component started", "app", s.spec.app, "offers", s.spec.describe(),
		"runtime_port", s.spec.runtimePort, "app_port", s.spec.appPort, "gateway", s.gateway)
	s.wait.Go(func() {
		err := s.host.Run(s.ctx)
		close(s.hostEnded)
		s.ended <- err
	})
	return nil
}

// launch starts the command under its guard.
func (s *sidecar) launch() error {
	spec := guard.Spec{Command: s.spec.command, Env: s.environment(), Boot: s.boot, Beyond: s.beyond, Stopped: s.stopped,
		Gateway: guard.Gateway{Address: s.gateway, Token: s.access.Token, CA: s.access.CA}}
	if s.spec.verbose >= verboseInfo {
		s.prefix = &prefixer{out: s.p.out, now: time.Now}
		for label, end := range map[string]**os.File{"STDOUT": &spec.Stdout, "STDERR": &spec.Stderr} {
			f, err := s.prefix.stream(label)
			if err != nil {
				return runtime.Errorf(runtime.CodeInternal, "cannot make a pipe: %v", err)
			}
			*end = f
			defer f.Close() // the guard has its copy
		}
	}
	child, code, err := guard.Start(spec)
	if err != nil {
		s.p.code = code
		return err
	}
	s.mu.Lock()
	s.child = child
	s.mu.Unlock()
	s.wait.Go(func() { s.feedGuard(child) })
	s.wait.Go(func() {
		look := time.NewTicker(heldEvery)
		defer look.Stop()
		s.watchHeld(child, look.C)
	})
	return nil
}

// environment is ours, without the key to all apps where somebody gave us that,
// and what KAR 1.x's SDKs look for. A name stands once: which of two values a
// program sees is up to its library.
func (s *sidecar) environment() []string {
	set := []string{
		"KAR_RUNTIME_PORT=" + strconv.Itoa(s.spec.runtimePort),
		"KAR_APP_PORT=" + strconv.Itoa(s.spec.appPort),
		"KAR_APP=" + s.spec.app,
		"KAR_REQUEST_TIMEOUT=" + strconv.FormatInt(s.spec.requestLimit.Milliseconds(), 10),
	}
	names := map[string]bool{"KAR_MESH_SECRET": true}
	for _, v := range set {
		names[variable(v)] = true
	}
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return names[variable(v)]
	}), set...)
}

// variable is the name in NAME=VALUE.
func variable(v string) string {
	name, _, _ := strings.Cut(v, "=")
	return name
}

// The guard freezes the component when the host's loop that looks after the lease has
// not come round for feedLimit: a sidecar that is stopped, or stuck, cannot see its lease
// run out. The sum with the lease stays below the second that owners add before they
// count a host lost. A host that has ended has no lease to look after.
const (
	feedEvery = 200 * time.Millisecond // then
	feedLimit = 800 * time.Millisecond
)

// turned is called by that loop.
func (s *sidecar) turned() {
	select {
	case s.turns <- guard.BootTime():
	default: // one is on its way, and is younger than feedLimit or of no use
	}
}

// A leased tree runs up to a point of [guard.BootTime].
type leased interface {
	Lease(until time.Duration)
	Done() <-chan struct{}
}

func (s *sidecar) feedGuard(child leased) {
	tick := time.NewTicker(feedEvery)
	defer tick.Stop()
	var ticks <-chan time.Time
	ended := s.hostEnded
	turn := guard.BootTime()
	for {
		child.Lease(turn + feedLimit)
		select {
		case <-child.Done():
			return
		case <-s.ctx.Done():
			return
		case turn = <-s.turns:
		case <-ended:
			ended, ticks, turn = nil, tick.C, guard.BootTime()
		case <-ticks:
			turn = guard.BootTime()
		}
	}
}

// Freeze, Thaw and Kill are what the host asks of the guard.
func (s *sidecar) Freeze() {
	if c := s.running(); c != nil {
		if err := c.Freeze(); err != nil {
			s.log.Error("the lease has run out for work in the component, and the component could not be stopped: that work may be done twice at once", "cause", err, "hint", deniedHint)
			return
		}
		s.log.Warn("the lease has run out for work in the component; it is stopped until the owners of that work answer")
	}
}

func (s *sidecar) Thaw() {
	if c := s.running(); c != nil {
		c.Thaw()
		s.log.Warn("the component goes on")
	}
}

func (s *sidecar) Kill(reason string) {
	if c := s.running(); c != nil {
		s.log.Error("the component is killed", "reason", reason)
		c.Kill(reason)
	}
}

// foreign tells that the component's port is another's: a command that survives
// not to get its port, as those that reload do, must not have its calls answered there.
func (s *sidecar) foreign() bool {
	c := s.running()
	if c == nil {
		return false
	}
	if _, err := c.Unheld(); err != nil {
		s.deniedOnce.Do(func() {
			s.log.Error("not all of the component can be stopped, so nothing could prove that work in it has ended; it gets no calls", "cause", err, "hint", deniedHint)
		})
		return true
	}
	pid := c.ForeignListener(s.spec.appPort)
	if pid != 0 {
		s.portTaken.Do(func() {
			e := runtime.Errorf(runtime.CodePortInUse, "the process %d listens on port %d, which is not of the component; it gets no calls", pid, s.spec.appPort)
			s.log.Error(e.Detail, "code", string(e.Code), "hint", e.Code.Hint())
		})
	}
	return pid != 0
}

// Meet, Answers, Programs and Backlog are what the host asks of a witness.
func (s *sidecar) Meet() {
	if c := s.running(); c != nil {
		c.Meet(s.spec.appPort)
		s.outsideOnce.Do(func() {
			if c.ListensOutside(s.spec.appPort) {
				c.Outside()
				s.host.Unguarded()
				s.log.Warn("no process of the command listens on the component's port, another does: stopping the command does not stop it, so its end proves nothing, and work is tried again when the lease is over, perhaps beside its first attempt",
					"app_port", s.spec.appPort, "hint", "run `kar run` inside the container, not around its client")
			}
		})
	}
}

func (s *sidecar) Answers(port int) (lived func() (yes, known bool)) {
	if c := s.running(); c != nil {
		return c.Answers(s.spec.appPort, port)
	}
	return func() (yes, known bool) { return false, false }
}

func (s *sidecar) Programs() (replaced func() (yes, known bool)) {
	return s.running().Programs(s.spec.appPort)
}

func (s *sidecar) Backlog() (waiting, most int, known bool) { return guard.Backlog(s.spec.appPort) }

func (s *sidecar) running() *guard.Child {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child
}

// close ends what is left, in any state; twice is fine.
func (s *sidecar) close() error {
	if c := s.running(); c != nil {
		select {
		case <-c.Done():
		default:
			c.Kill("kar run ends")
		}
	}
	s.cancel()
	if s.server != nil {
		_ = s.server.Close()
	} else if s.listener != nil {
		_ = s.listener.Close()
	}
	s.signals.stop()
	s.wait.Wait()
	if s.waiting != nil {
		s.waiting.wait.Wait()
	}
	if s.prefix != nil {
		s.prefix.finish(s.told)
	}
	if s.portLock != nil {
		_ = s.portLock.Close()
	}
	return nil
}

// newBoot is a boot id: never used before, never used again.
func newBoot() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "node-" + hex.EncodeToString(b[:])
}

// hostName is for people: this machine and process.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	return fmt.Sprintf("%s/%d", name, os.Getpid())
}

package host

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// Host is the host's end of the attach tunnel. Make one with [New].
type Host struct {
	cfg  Config
	base *url.URL // of the app
	app  app

	// ctx ends everything; stop ends it. The attempts that run then are left
	// as they are: only the exit of the app says how they ended.
	ctx  context.Context
	stop context.CancelFunc
	wait sync.WaitGroup
	pool chan *runtime.Invoke

	ready    chan struct{} // the first join was answered and the app listens
	welcomed chan struct{} // the size of the mesh is known
	wanted   chan struct{} // the app asked for something before it listened
	askOnce  sync.Once

	exitTaken chan struct{} // the gateway has the exit report

	mu         sync.Mutex
	conn       *tunnel.Conn // nil while not joined
	attachment uint64       // the last, see [runtime.HostInfo]
	partitions int
	lease      time.Duration
	bodyLimit  int
	listening  bool
	draining   bool
	up         bool
	exited     bool
	asked      bool           // for a shutdown
	lost       *runtime.Error // the verdict
	mesh       string         // whose work this is, "" while not known
	another    string         // the mesh that was met last, "" unless it is another
	refusal    *runtime.Error // what the gateway said after the join
	changed    chan struct{}  // closed when something that Drain waits for has changed

	attempts  attempts
	parts     partitions
	gateways  gateways
	clock     gatewayClock
	late      []*runtime.Invoke // arrived while they may not start, in order
	instances map[runtime.Actor]*instance
	calls     map[runtime.Actor]int     // attempts that have arrived and not ended
	ending    map[runtime.Actor]*ending // deactivations in progress
	created   map[string]bool           // types for which "created" says nothing, see actorCall
	unsent    []tunnel.Message          // ended while not joined
	restarts  restarts
	leaseInfo leaseState
	api       pendingCalls

	saidNoGateway time.Time // that none can be started
	unguarded     bool      // see Unguarded
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config) (*Host, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, bodyLimit: cfg.BodyLimit, lease: 6 * time.Second,
		ready: make(chan struct{}), welcomed: make(chan struct{}), wanted: make(chan struct{}), exitTaken: make(chan struct{}),
		changed: make(chan struct{}), pool: make(chan *runtime.Invoke),
		instances: map[runtime.Actor]*instance{},
		calls:     map[runtime.Actor]int{},
		ending:    map[runtime.Actor]*ending{},
		created:   map[string]bool{},
		attempts:  newAttempts(cfg.KeepLimit),
		api:       pendingCalls{calls: map[uint64]*apiCall{}},
	}
	addresses, _ := SplitGateways(cfg.Gateway) // validate has read it
	for _, a := range addresses {
		if _, err := cfg.Access.Client(a); err != nil {
			return nil, err
		}
	}
	h.gateways = newGateways(addresses)
	h.clock.own = cfg.Now
	h.ctx, h.stop = context.WithCancel(context.Background())
	if cfg.serves() {
		h.base, _ = url.Parse(cfg.AppURL) // validate has parsed it
		warn := func(s string) { cfg.Logger.Warn(s) }
		if cfg.H2C {
			h.app = newH2C(h.base, warn)
		} else {
			h.app = newHTTP1(h.base, cfg.Witness, warn)
		}
	}
	return h, nil
}

// serves tells hosts that offer anything from clients that only ask.
func (c *Config) serves() bool { return !c.NoApp && (c.Info.Service != "" || len(c.Info.Actors) > 0) }

// Ready is closed when the app listens and the first join was answered.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Run waits for the app, attaches, serves, and attaches again when the stream
// goes. It returns nil when ctx has ended or Exit was called, an *Error with
// CodeHostLost when the boot was counted lost, or what makes this gateway
// unusable. It may be called once; when it returns nothing of it runs any more.
func (h *Host) Run(ctx context.Context) error {
	end := context.AfterFunc(ctx, h.stop)
	defer end()
	h.wait.Go(h.keepLease)
	if h.cfg.serves() {
		h.wait.Go(h.awaitApp)
		select {
		case <-h.wanted: // the app needs the gateway before it listens
		case <-h.listens():
		case <-h.ctx.Done():
		}
	} else {
		h.setListening()
	}
	err := h.attach()
	h.stop()
	h.close()
	h.wait.Wait()
	return err
}

func (h *Host) close() {
	if h.app != nil {
		h.app.close()
	}
}

// attach dials, joins and serves until there is a reason to end.
func (h *Host) attach() error {
	pause, backOff := time.Duration(0), time.Duration(0)
	var since, told time.Time // of not reaching a gateway
	admitted := false         // ever
	tried, unfit := 0, 0      // gateways in this round, and those that will never do
	closed := 0               // of them, those that did not let this host in
	var shut time.Time        // since when all did not
	for {
		if !sleep(h.ctx, pause) {
			return h.verdict()
		}
		h.mu.Lock()
		gateway, limit := h.gateways.next(), h.gateways.limit()
		h.mu.Unlock()
		joined, err := h.stream(gateway, limit)
		if v := h.verdict(); v != nil {
			return v
		}
		if h.ctx.Err() != nil {
			return nil
		}
		denied := h.denial(err)
		if denied != nil {
			joined, err = false, denied
		}
		another := h.dialled(gateway, joined, err)
		tried++
		var e *runtime.Error
		// A wrong setting is better told at once than tried for ever.
		tooOld := errors.As(err, &e) && e.Code == runtime.CodeGatewayTooOld
		if tooOld || denied != nil && !admitted {
			unfit++
		}
		if tooOld || denied != nil {
			closed++
		}
		if !another {
			if unfit == tried {
				return err
			}
			switch {
			case closed < tried:
				shut = time.Time{}
			case shut.IsZero():
				shut = time.Now()
			case h.lostByNow(shut):
				if h.cfg.Guard != nil { // its work may run elsewhere by now
					h.cfg.Guard.Kill("no gateway lets this component in: " + err.Error())
				}
				return err
			}
			tried, unfit, closed = 0, 0, 0
		}
		admitted = admitted || joined
		if joined {
			h.cfg.Logger.Info("the stream to the gateway broke, dialling again", "gateway", gateway, "cause", err)
			backOff = 0
			pause, since = h.spread(), time.Time{}
			continue
		}
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		if now.Sub(since) > time.Second && now.Sub(told) > 10*time.Second {
			h.cfg.Logger.Warn("the gateway cannot be reached, trying on", "gateway", gateway, "error", err)
			told = now
		}
		if another {
			pause = 0
			continue
		}
		backOff = min(max(2*backOff, 10*time.Millisecond), time.Second)
		pause = backOff
	}
}

// lostByNow tells whether the owners have counted this host lost that no gateway has let
// in since then.
func (h *Host) lostByNow(since time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(since) > h.lease+time.Second
}

// dialled notes how a stream or the attempt at one ended; it tells whether
// another gateway is to be tried at once.
func (h *Host) dialled(gateway string, joined bool, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if joined {
		h.gateways.stood(gateway)
		return false
	}
	return h.gateways.failed(gateway, err)
}

func (h *Host) verdict() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == nil {
		return nil
	}
	return h.lost
}

// sleep waits for d or the end of ctx and tells whether to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// notify wakes Drain; h.mu is held.
func (h *Host) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

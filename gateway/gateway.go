package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// DefaultBodyLimit is the size in bytes above which a request body is refused.
const DefaultBodyLimit = 4 << 20

// Config is what a Gateway needs. Mesh and Topics are required.
type Config struct {
	Mesh    *engine.Mesh
	Topics  runtime.Topics
	Version string // for /kar/status and the API document
	Node    string // boot id of this gateway
	// BodyLimit is in bytes; 0 means [DefaultBodyLimit].
	BodyLimit int64
	// Partitions of the mesh, for /kar/status; 0 means 1.
	Partitions int
	// Logger gets one line for each failure of KAR itself, nothing else; nil discards.
	Logger *slog.Logger
	// Status adds to /kar/status under "details"; it must be fit for JSON. May be nil.
	Status func() any
	// Peers counts the streams to other gateways; nil in local mode.
	Peers func() PeerStats
	// Strained is why the gateway works badly though it works, which /kar/health says; may
	// be nil.
	Strained func() error
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// PeerStats are figures of the streams to other gateways. All but Up only grow.
type PeerStats struct {
	Up                  int // gateways to which the stream stands
	FramesIn, FramesOut uint64
	BytesIn, BytesOut   uint64
	Breaks              uint64 // of streams that stood
	Refused             uint64 // dials of others that were not let in
}

// A Gateway serves the HTTP API. It has no goroutines of its own.
type Gateway struct {
	cfg      Config
	mesh     *engine.Mesh
	router   *router
	metrics  *metrics
	started  time.Time
	stopping atomic.Bool
	verdict  verdict
}

// New makes a Gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Mesh == nil || cfg.Topics == nil {
		return nil, errors.New("gateway: Config needs Mesh and Topics")
	}
	if cfg.BodyLimit < 0 {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "the body limit is %d bytes; it must be positive", cfg.BodyLimit)
	}
	if cfg.BodyLimit == 0 {
		cfg.BodyLimit = DefaultBodyLimit
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 1
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Gateway{cfg: cfg, mesh: cfg.Mesh, started: cfg.Now()}
	routes := g.routes()
	g.router = newRouter(routes)
	m, err := newMetrics(routes, cfg)
	if err != nil {
		return nil, err
	}
	g.metrics = m
	return g, nil
}

// Handler serves the whole API. It may be shared by any number of listeners;
// requests that come over a host's stream carry a runtime.Caller in their context.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serve) }

// Stop makes /kar/ready answer 503 from now on; everything else goes on.
func (g *Gateway) Stop() { g.stopping.Store(true) }

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Gateway: g, w: w, r: r}
	start := g.cfg.Now()
	defer func() {
		if p := recover(); p != nil {
			x.panicked(p)
		}
		g.metrics.observe(x.route, x.status, g.cfg.Now().Sub(start))
	}()
	route, err := g.router.match(r.URL.EscapedPath(), &x.names)
	if err != nil {
		x.fail(err)
		return
	}
	x.route, x.caller = route, runtime.CallerOf(r.Context())
	if err := x.allowed(); err != nil {
		x.fail(err)
		return
	}
	h := route.handler(r.Method)
	if h == nil {
		w.Header().Set("Allow", route.allow)
		x.fail(runtime.Errorf(runtime.CodeMethodNotAllowed, "%s is not a method of this path", clip(r.Method, 20)))
		return
	}
	if err := h(x); err != nil {
		x.fail(err)
	}
}

// allowed compares the caller's app with the one of the path, whatever door the
// request came through and however the path was made.
func (x *exchange) allowed() error {
	switch {
	case x.route.open:
		return nil
	case strings.HasPrefix(x.route.pattern, api):
		if x.caller.MayActFor(x.app()) {
			return nil
		}
		return runtime.Errorf(runtime.CodeForbidden, "the caller is of another app than the path")
	case x.caller.App != "":
		return runtime.Errorf(runtime.CodeForbidden, "this path is for operators, and the caller is of one app")
	}
	return nil
}

// panicked answers what no client should be able to cause. When an answer has
// begun the connection breaks, so that nobody takes what came for the whole.
func (x *exchange) panicked(p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	x.cfg.Logger.Error("panic in a request", "method", x.r.Method, "route", x.routeName(), "panic", p, "stack", string(debug.Stack()))
	if x.status != 0 {
		panic(http.ErrAbortHandler)
	}
	clear(x.w.Header())
	x.fail(runtime.Errorf(runtime.CodeInternal, "the gateway failed while it served this request"))
}

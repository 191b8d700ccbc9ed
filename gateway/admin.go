package gateway

import (
	"context"
	_ "embed"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// document is the API document; embedding needs a variable, nothing writes to it.
//
//go:embed openapi.json
var document []byte

// A verdict is what the mesh last said of its health. Anybody may ask, and each
// answer costs the store a question for each partition, so one is enough for a second.
type verdict struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

const (
	verdictLife  = time.Second
	verdictLimit = 5 * time.Second // for whoever asked first; the others wait with it
)

func (g *Gateway) healthy(ctx context.Context) error {
	v := &g.verdict
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := g.cfg.Now(); v.at.IsZero() || now.Sub(v.at) >= verdictLife || now.Before(v.at) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verdictLimit)
		defer cancel()
		v.err = g.mesh.Healthy(ctx)
		v.at = g.cfg.Now()
	}
	return v.err
}

// health serves GET /kar/health: 200 while every partition can append, the store
// answers, there is room for events, and what it writes to does not slow it down.
func (x *exchange) health() error {
	var err error
	if x.cfg.Strained != nil {
		err = x.cfg.Strained() // first, as it is why all else may be unwell
	}
	if err == nil {
		err = x.healthy(x.r.Context())
	}
	if err == nil {
		err = x.mesh.TopicsFull()
	}
	if err != nil {
		return x.unfit(err)
	}
	return x.text(http.StatusOK, "OK\n")
}

// ready serves GET /kar/ready: work can be accepted, and it is not about to
// stop. Without the store it can, and while a partition has no owner anywhere: a load
// balancer that took all gateways away then would stop what can go on.
func (x *exchange) ready() error {
	if x.stopping.Load() {
		return runtime.Errorf(runtime.CodeShutdown, "the gateway is stopping")
	}
	err := x.healthy(x.r.Context())
	var e *runtime.Error
	if errors.As(err, &e) && (e.Code == runtime.CodeStoreAway || e.Code == runtime.CodeStateLost || e.Code == runtime.CodeNotOwner) {
		err = nil
	}
	if err != nil {
		return x.unfit(err)
	}
	return x.text(http.StatusOK, "OK\n")
}

// unfit makes every reason for bad health a 503.
func (x *exchange) unfit(err error) error {
	x.failWith(err, http.StatusServiceUnavailable)
	return nil
}

// A statusAnswer is what `kar gateway status` shows.
type statusAnswer struct {
	Version    string    `json:"version"`
	Node       string    `json:"node"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Partitions int       `json:"partitions"`
	Idle       bool      `json:"idle"` // no work is left that could run
	Stopping   bool      `json:"stopping"`
	Hosts      int       `json:"hosts"`
	// Gateways are those of the mesh, with what each owns; Unowned are partitions
	// of which this one knows no owner.
	Gateways []engine.GatewayInfo `json:"gateways"`
	Unowned  int                  `json:"unowned"`
	Stats    engine.Stats         `json:"stats"`
	Details  any                  `json:"details,omitempty"`
}

// gatewayStatus serves GET /kar/status.
func (x *exchange) gatewayStatus() error {
	stats := x.mesh.Stats()
	a := statusAnswer{
		Version: x.cfg.Version, Node: x.cfg.Node, PID: os.Getpid(), Started: x.started.UTC(),
		Partitions: x.cfg.Partitions, Idle: x.mesh.Idle(), Stopping: x.stopping.Load(),
		Hosts: stats.Hosts, Gateways: x.mesh.Members(), Unowned: stats.Unowned, Stats: stats,
	}
	if x.cfg.Status != nil {
		a.Details = x.cfg.Status()
	}
	return x.json(http.StatusOK, a)
}

// openapi serves GET /kar/openapi.json.
func (x *exchange) openapi() error {
	return x.bytes(http.StatusOK, "application/json", document)
}

// scrape serves GET /metrics.
func (x *exchange) scrape() error {
	x.status = http.StatusOK
	x.metrics.handler.ServeHTTP(x.w, x.r)
	return nil
}

// Package activator is the way out: it knows how hosts are reached. This
// package is the gateway's end: the attach endpoint, to which sidecars dial in,
// and the url driver. Package host is the other end of the attach tunnel.
package activator

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Config of the gateway's end. Owners and API are required.
type Config struct {
	// Owners judges hosts; the engine.
	Owners runtime.Owners
	// API serves what the apps behind the tunnel ask for, with paths
	// /apps/{app}/kar/v1/… and a context that carries a [runtime.Caller].
	API http.Handler
	// Release is called with app and ids of plain calls whose outcome has reached
	// the sidecar that made them. Nil is allowed.
	Release func(app string, ids ...runtime.ID)
	// Sender tells for which app alone the sender of a request may act, "" for
	// all apps. Hosts of other apps are refused. Nil means all for everybody.
	Sender func(*http.Request) (app string)
	// Node is the boot id of this gateway, Version its release, for people.
	Node, Version string
	// Mesh names the log, unlike all others that there are; "" when that is not known.
	Mesh string
	// Partitions of the mesh; 0 means 1.
	Partitions int
	// Lease of hosts; 0 means 6 s.
	Lease time.Duration
	// BodyLimit is the largest body of a request or result in bytes; 0 means 4 MiB.
	BodyLimit int
	// QueueLimit is how many bytes may wait for a host that does not read; 0
	// means 64 MiB. Beyond it the stream is broken, and the join repairs it.
	QueueLimit int
	Logger     *slog.Logger
	// Now is the clock, which hosts are told; nil means time.Now.
	Now func() time.Time
}

// Activator serves the attach endpoint. It is an [http.Handler].
type Activator struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	pool   *workers

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool
	wait   sync.WaitGroup
}

// New makes the gateway's end.
func New(cfg Config) (*Activator, error) {
	if cfg.Owners == nil || cfg.API == nil {
		return nil, errors.New("activator: Owners and API are required")
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 1
	}
	if cfg.Lease == 0 {
		cfg.Lease = 6 * time.Second
	}
	if cfg.BodyLimit == 0 {
		cfg.BodyLimit = 4 << 20
	}
	if cfg.QueueLimit == 0 {
		cfg.QueueLimit = 64 << 20
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Release == nil {
		cfg.Release = func(string, ...runtime.ID) {}
	}
	if cfg.Sender == nil {
		cfg.Sender = func(*http.Request) string { return "" }
	}
	a := &Activator{cfg: cfg, links: map[*link]struct{}{}, pool: newWorkers()}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Close breaks every stream and waits until nothing of it runs any more. Hosts
// dial again; a broken stream proves nothing about them. Twice is fine.
func (a *Activator) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.wait.Wait()
	a.pool.close()
	return nil
}

// wall is the clock as hosts are told it.
func (a *Activator) wall() int64 { return a.cfg.Now().UnixMilli() }

// Attached is the number of live streams.
func (a *Activator) Attached() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.links)
}

package cli

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/events"
	"github.com/karmesh/kar/gateway"
	"github.com/karmesh/kar/gateway/doors"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// A nodeConfig is everything a gateway is told.
type nodeConfig struct {
	background.Place               // without Socket: no socket and no state folder
	Shared           *sharedConfig // nil for local mode
	Version          string
	Background       bool
	Partitions       int    // of the mesh, or of a new state folder
	Listen           string // TCP address, "" for none
	Keys             *doors.Keys
	// TLSCert and TLSKey are files; both are "" without TLS.
	TLSCert, TLSKey string
	// IdleStop ends the process this long after the last client when no work is
	// left; 0 for never.
	IdleStop        time.Duration
	BodyLimit       int // bytes
	Lease           time.Duration
	IDWindow        time.Duration
	ResultRetention time.Duration
	MaxAttempts     int   // 0 for no limit
	Memory          int64 // bytes for accepted work, 0 for no limit
	TrimAt          int64 // bytes, 0 for the default
	Logger          *slog.Logger
}

// goodbye is how long requests in flight may take to end when the gateway
// stops; their clients ask the next gateway.
const goodbye = 2 * time.Second

// handOverLimit is how long other gateways may take to take over.
const handOverLimit = 5 * time.Second

// runNode is a gateway from its first line to its last. This page is the
// wiring: what is made from what, in which order, and how it is taken apart.
func (p *program) runNode(ctx context.Context, cfg nodeConfig) (err error) {
	log := cfg.Logger
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping := catchSignals()
	defer stopping.stop()
	started := time.Now()
	boot := newBoot()

	// 1. What holds the log, the store and the topics. In local mode its lock
	// makes this gateway the only one; in a shared mesh others must know where
	// this one listens.
	tcp, err := openTCP(cfg, log)
	if err != nil {
		return err
	}
	defer tcp.close()
	back, err := openBackend(ctx, cfg, boot, tcp.advertised)
	if errors.Is(err, errAlreadyServed) {
		background.TellReady(nil)
		return nil
	}
	if err != nil {
		return err
	}
	defer closing(&err, log, "the backend", back.close)

	// 2. The rules, driven: one core for each partition.
	mesh, err := engine.Open(ctx, engine.Config{
		Partitions: cfg.Partitions, Node: boot, Mesh: back.mesh,
		Logs: back.logs, Store: back.store, Topics: back.topics, Logger: log, Shared: back.shared,
		Lease: cfg.Lease, IDWindow: cfg.IDWindow, ResultRetention: cfg.ResultRetention,
		MaxAttempts: cfg.MaxAttempts, TrimAt: cfg.TrimAt, Memory: cfg.Memory, LogRetention: back.retention,
	})
	if err != nil {
		return err
	}
	defer closing(&err, log, "the mesh", mesh.Close)

	// 3. The way in, the way out, and events; none knows the others.
	clients := &clientCount{}
	api, err := gateway.New(gateway.Config{
		Mesh: mesh, Topics: back.topics, Version: cfg.Version, Node: boot,
		BodyLimit: int64(cfg.BodyLimit), Partitions: cfg.Partitions, Peers: back.peerStats, Strained: back.strained, Logger: log,
	})
	if err != nil {
		return err
	}
	attach, err := activator.New(activator.Config{
		Owners: mesh, API: api.Handler(), Release: mesh.Release, Sender: doors.SenderApp, Node: boot, Version: cfg.Version,
		Mesh: back.identity, Partitions: cfg.Partitions, Lease: cfg.Lease, BodyLimit: cfg.BodyLimit, Logger: log,
	})
	if err != nil {
		return err
	}
	urls := activator.NewURLHosts(mesh, boot, cfg.BodyLimit, log)
	pump, err := events.New(events.Config{Mesh: mesh, Topics: back.topics, Logger: log})
	if err != nil {
		return err
	}
	var rooms sync.WaitGroup
	rooms.Go(func() { followServices(ctx, mesh, urls) })
	rooms.Go(func() {
		if err := pump.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("events are no longer delivered", "error", err)
		}
	})

	// 4. The doors: the user's socket, and TCP when asked for.
	node := &node{cfg: cfg, mesh: mesh, attach: attach, clients: clients, check: back.check, started: started, stop: make(chan struct{})}
	open, err := openDoors(cfg, node, tcp, api, attach, back.peers, log)

	// 5. Serve until told to stop, or until nobody needs it any more.
	if err == nil {
		err = node.serve(ctx, open, stopping)
	}

	// 6. The way back, in stages. First other gateways take over and clients
	// hear that nothing new is taken; then the doors close; then what feeds work
	// ends; then the mesh, which makes everything durable; the backend last.
	api.Stop()
	leave, left := context.WithTimeout(context.WithoutCancel(ctx), handOverLimit)
	mesh.Leave(leave)
	left()
	mesh.Pause()
	open.close(goodbye, attach, &err)
	cancel()
	rooms.Wait()
	if cerr := urls.Close(); err == nil {
		err = cerr
	}
	if cfg.Socket != "" {
		cfg.RemoveNote(node.pid())
	}
	log.Info("gateway stopped", "version", cfg.Version)
	return err
}

// closing closes a room at the end of runNode; the first error wins.
func closing(err *error, log *slog.Logger, what string, closer func() error) {
	if cerr := closer(); cerr != nil {
		log.Error("closing failed", "room", what, "error", cerr)
		if *err == nil {
			*err = cerr
		}
	}
}

// errAlreadyServed: while this background gateway waited for the folder,
// another one has come up on it.
var errAlreadyServed = errors.New("another gateway serves this folder")

// openDisk waits for the folder when a gateway before this one is just ending;
// in the foreground it refuses at once, unless the other one is idle.
func openDisk(ctx context.Context, cfg nodeConfig) (*embedded.Disk, error) {
	patience := time.Now()
	if cfg.Background || stopIdle(ctx, cfg) {
		patience = patience.Add(10 * time.Second)
	}
	for {
		disk, err := embedded.Open(cfg.Data(), embedded.Options{Mesh: "local", Partitions: cfg.Partitions, Logger: cfg.Logger})
		var re *runtime.Error
		if err == nil || !errors.As(err, &re) || re.Code != runtime.CodeInUse || time.Now().After(patience) {
			return disk, err
		}
		if cfg.Background {
			if _, _, ok := cfg.Running(ctx); ok {
				return nil, errAlreadyServed
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stopIdle stops a background gateway that nobody needs. The command that
// started it may have ended this very moment, so it gets a second look.
func stopIdle(ctx context.Context, cfg nodeConfig) bool {
	for giveUp := time.Now().Add(500 * time.Millisecond); time.Now().Before(giveUp); {
		_, s, ok := cfg.Running(ctx)
		switch {
		case !ok || !s.Background || s.Hosts > 0:
			return false
		case s.Idle:
			stopped, err := cfg.Stop(ctx)
			return stopped && err == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

// followServices keeps the url hosts as the mesh lists them, until ctx ends. A
// list that lacks what some partition did not say adds, and removes nothing.
func followServices(ctx context.Context, mesh *engine.Mesh, urls *activator.URLHosts) {
	known := map[[2]string]activator.URLService{}
	for {
		list, changed, err := mesh.Services(ctx, "")
		if err == nil {
			clear(known)
		}
		for _, s := range list {
			known[[2]string{s.App, s.Name}] = activator.URLService{App: s.App, Name: s.Name, URL: s.URL, Timeout: s.Timeout, Proxied: s.Proxied}
		}
		urls.Set(slices.Collect(maps.Values(known)))
		var again <-chan time.Time
		if err != nil {
			again = time.After(time.Second)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

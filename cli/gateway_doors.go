package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/gateway"
	"github.com/karmesh/kar/gateway/doors"
	"github.com/karmesh/kar/gateway/peer"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A node is the running gateway as its own management sees it.
type node struct {
	cfg     nodeConfig
	mesh    *engine.Mesh
	attach  *activator.Activator
	clients *clientCount
	check   func() error // whether the backend is still what it was
	started time.Time
	socket  *socketDoor // nil for none
	tcp     string      // the TCP address, "" for none
	once    sync.Once
	stop    chan struct{} // closed when somebody asked for the end
}

func (n *node) pid() int { return os.Getpid() }

// addresses are those at which it listens.
func (n *node) addresses() (list []string) {
	if n.socket != nil {
		list = n.socket.addresses()
	}
	if n.tcp != "" {
		list = append(list, n.tcp)
	}
	return list
}

// idle: nobody is connected but for others, and no work is left that could run.
func (n *node) idle(others int) bool {
	return n.clients.open() <= others && n.attach.Attached() == 0 && n.mesh.Idle()
}

// settleLimit is how long a gateway waits at its start for all partitions to have owners.
const settleLimit = 10 * time.Second

// serve returns when the gateway shall end, with nil, or when a door broke.
func (n *node) serve(ctx context.Context, d *listeners, stopping *signals) error {
	if n.socket != nil {
		if err := n.socket.note(); err != nil {
			return err
		}
	}
	settled, cancel := context.WithTimeout(ctx, settleLimit)
	if err := n.mesh.Settled(settled); err != nil && ctx.Err() == nil {
		n.cfg.Logger.Warn("the gateway is not complete yet; it goes on", "error", err)
	}
	cancel()
	if err := n.mesh.Refused(); err != nil {
		return err
	}
	n.cfg.Logger.Info("gateway ready", "version", n.cfg.Version, "pid", n.pid(), "state_dir", n.cfg.Dir,
		"listen", n.addresses(), "ready_in", time.Since(n.started).Round(time.Millisecond))
	if n.cfg.Background {
		background.TellReady(nil)
	}
	every := time.Second
	if n.cfg.IdleStop > 0 {
		every = max(min(n.cfg.IdleStop/10, every), time.Millisecond)
	}
	look := time.NewTicker(every)
	defer look.Stop()
	busy, seen := time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-stopping.ch:
			n.cfg.Logger.Info("gateway stops", "signal", sig)
			return nil
		case <-n.stop:
			n.cfg.Logger.Info("gateway stops", "reason", "asked to")
			return nil
		case err := <-d.broken:
			return err
		case now := <-look.C:
			if err := n.check(); err != nil {
				return err // what is accepted from now on would be lost
			}
			if err := n.mesh.Refused(); err != nil {
				return err
			}
			if n.socket != nil {
				n.socket.look()
			}
			if n.cfg.IdleStop <= 0 {
				continue
			}
			// A short visit between two looks counts as well.
			if total := n.clients.all(); total != seen || !n.idle(0) {
				busy, seen = now, total
			} else if now.Sub(busy) >= n.cfg.IdleStop {
				n.cfg.Logger.Info("gateway stops", "reason", "idle", "idle_for", n.cfg.IdleStop)
				return nil
			}
		}
	}
}

// local serves what only this user may ask: the socket's folder is private.
func (n *node) local(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+background.StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(background.Status{
			PID: n.pid(), Version: n.cfg.Version, Built: background.BuiltAt(), Background: n.cfg.Background,
			Idle: n.idle(1), Clients: max(n.clients.open()-1, 0), Hosts: len(n.mesh.Hosts("")),
			Started: n.started.UTC().Format(time.RFC3339), StateDir: n.cfg.Dir, Listen: n.addresses(),
		})
	})
	mux.HandleFunc("POST "+background.StopPath, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		n.once.Do(func() { close(n.stop) })
	})
	return forPaths(api, mux, background.StatusPath, background.StopPath)
}

// forPaths sends some exact paths to one handler and all else, untouched, to
// another: http.ServeMux would clean paths in which users put what they like.
func forPaths(otherwise, special http.Handler, paths ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range paths {
			if r.URL.Path == path {
				special.ServeHTTP(w, r)
				return
			}
		}
		otherwise.ServeHTTP(w, r)
	})
}

// listeners are the open doors and their servers.
type listeners struct {
	servers []*http.Server
	broken  chan error
	wait    sync.WaitGroup
	// life is that of all requests; farewell ends it.
	life     context.Context
	farewell context.CancelFunc
}

// A tcpDoor is the TCP listener, open before anything is served on it.
type tcpDoor struct {
	net.Listener // nil for none
	secure       *tls.Config
	address      string // http://host:port as listened on
	advertised   string // where others reach it
}

func (d *tcpDoor) close() {
	if d.Listener != nil {
		_ = d.Listener.Close() // the server has closed it already, when it came to that
	}
}

// openTCP listens, so that the port is known and held.
func openTCP(cfg nodeConfig, log *slog.Logger) (d *tcpDoor, err error) {
	d = &tcpDoor{}
	if cfg.Listen == "" {
		return d, nil
	}
	scheme := "http://"
	if cfg.TLSCert != "" || cfg.TLSKey != "" {
		scheme = "https://"
		if d.secure, err = doors.ServerTLS(cfg.TLSCert, cfg.TLSKey, log); err != nil {
			return nil, err
		}
	}
	if d.Listener, err = listen(cfg.Listen); err != nil {
		return nil, err
	}
	d.address = scheme + d.Addr().String()
	say := ""
	if cfg.Shared != nil {
		say = cfg.Shared.Advertise
	}
	if d.advertised, err = advertised(say, scheme, d.Addr()); err != nil {
		d.close()
		return nil, err
	}
	if cfg.Keys.Insecure() {
		log.Warn("there is no secret of the mesh: everybody who can reach this address may do everything", "listen", d.Addr())
	}
	return d, nil
}

// openDoors serves the socket and, when asked for, the TCP address. It returns
// doors to be closed in any case.
func openDoors(cfg nodeConfig, n *node, tcp *tcpDoor, api *gateway.Gateway, attach *activator.Activator, peers *peer.Peers, log *slog.Logger) (*listeners, error) {
	d := &listeners{broken: make(chan error, 3)}
	d.life, d.farewell = context.WithCancel(context.Background())
	public := forPaths(forPaths(api.Handler(), attach, "/kar/attach"), http.HandlerFunc(attach.Exit), "/kar/exit")
	if cfg.Socket != "" {
		server := d.add(gateway.NewServer(n.local(public), log), n.clients)
		n.socket = &socketDoor{
			place: cfg.Place, started: n.started, version: cfg.Version, log: log,
			serve: func(l net.Listener) { d.serve(server.Serve, l) },
		}
		if err := n.socket.open(); err != nil {
			return d, err
		}
	}
	if tcp.Listener != nil {
		n.tcp = tcp.address
		guarded := cfg.Keys.Guard(public, api.Refuse)
		if peers != nil { // gateways prove themselves in another way
			guarded = forPaths(guarded, doors.Strangers(peers), peer.Path)
		}
		server := gateway.NewDoor(guarded, log)
		server.ConnContext = doors.ConnContext
		d.add(server, n.clients)
		serve := server.Serve
		if tcp.secure != nil {
			server.TLSConfig = tcp.secure
			server.Protocols.SetHTTP2(true)
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		d.serve(serve, doors.Limit(tcp.Listener, doors.DefaultLimits(), log))
	}
	return d, nil
}

// add makes a server end with the others.
func (d *listeners) add(server *http.Server, clients *clientCount) *http.Server {
	server.ConnState = clients.changed
	server.BaseContext = func(net.Listener) context.Context { return d.life }
	d.servers = append(d.servers, server)
	return server
}

// serve runs one listener of a server that was added.
func (d *listeners) serve(serve func(net.Listener) error, l net.Listener) {
	d.wait.Go(func() {
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, errRetired) {
			d.broken <- runtime.Errorf(runtime.CodeInternal, "the listener %s broke: %v", l.Addr(), err)
		}
	})
}

// close lets requests in flight end for a while; those that have not are then
// answered that their outcome is not known here, with their id. Streams of
// components break first: they would go on for ever.
func (d *listeners) close(patience time.Duration, attach *activator.Activator, err *error) {
	defer time.AfterFunc(patience, d.farewell).Stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience+lastAnswers)
	defer cancel()
	defer d.farewell()
	var streams sync.WaitGroup
	var aerr error
	streams.Go(func() { aerr = attach.Close() })
	for _, server := range d.servers {
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	}
	streams.Wait()
	d.wait.Wait()
	if *err == nil {
		*err = aerr
	}
}

// lastAnswers is how long those answers may take.
const lastAnswers = time.Second

// clientCount counts connections.
type clientCount struct {
	now   atomic.Int64
	total atomic.Uint64
}

func (c *clientCount) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateHijacked {
		doors.LetIn(conn)
	}
	switch state {
	case http.StateNew:
		c.now.Add(1)
		c.total.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.now.Add(-1)
	}
}

func (c *clientCount) open() int   { return int(c.now.Load()) }
func (c *clientCount) all() uint64 { return c.total.Load() }

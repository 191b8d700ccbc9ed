package activator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

const (
	handshake = 10 * time.Second
	// A message carries a body and a header; this is what the header may take.
	headRoom = 1 << 20
	// Finished answers that a host brings along at a join, in bytes.
	joinLimit = 256 << 20
)

// ServeHTTP is the attach endpoint, mounted at /kar/attach. It returns when
// the stream has ended.
func (a *Activator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		http.Error(w, "the gateway is stopping", http.StatusServiceUnavailable)
		return
	}
	a.wait.Add(1)
	a.mu.Unlock()
	defer a.wait.Done()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		a.cfg.Logger.Warn("a host could not attach", "error", err)
		return
	}
	c := tunnel.New(ws, tunnel.Limits{
		Message: a.cfg.BodyLimit + headRoom, Queue: a.cfg.QueueLimit,
		Silence: max(3*a.cfg.Lease, time.Second),
	})
	defer c.Close()
	l, join, err := a.greet(c)
	if err != nil {
		a.cfg.Logger.Warn("a host could not attach", "error", err)
		return
	}
	if err := a.allowed(r, l.info.App, l.info.Boot); err != nil {
		a.refuse(l, err)
		return
	}
	a.serve(l, join)
}

// greet makes the join: welcome with the question, hello, what was finished, joined.
func (a *Activator) greet(c *tunnel.Conn) (*link, runtime.JoinAnswer, error) {
	var join runtime.JoinAnswer
	ctx, cancel := context.WithTimeout(a.ctx, handshake)
	defer cancel()
	err := c.Write(ctx, &tunnel.Welcome{
		Protocol: tunnel.Protocol, Version: a.cfg.Version, Node: a.cfg.Node,
		Partitions: a.cfg.Partitions, LeaseMillis: a.cfg.Lease.Milliseconds(),
		BodyLimit: a.cfg.BodyLimit, Epochs: a.cfg.Owners.Epochs(), Gateways: a.cfg.Owners.Gateways(), Mesh: a.cfg.Mesh,
		WallMillis: a.wall(),
	})
	if err != nil {
		return nil, join, err
	}
	m, err := c.Read(ctx)
	if err != nil {
		return nil, join, err
	}
	hello, ok := m.(*tunnel.Hello)
	if !ok || hello.Info.Boot == "" || hello.Info.App == "" {
		return nil, join, errors.New("its first message is not a hello")
	}
	if hello.Protocol != tunnel.Protocol {
		_ = c.Write(ctx, &tunnel.Refused{ // the stream ends either way
			Code:   runtime.CodeGatewayTooOld,
			Detail: "this gateway (version " + a.cfg.Version + ") and this kar (version " + hello.Version + ") speak different versions of the tunnel",
		})
		return nil, join, errors.New("it speaks another version of the tunnel: " + hello.Version)
	}
	if err := hello.Info.Check(); err != nil {
		_ = c.Write(ctx, &tunnel.Refused{Code: err.Code, Detail: err.Detail}) // the stream ends either way
		return nil, join, err
	}
	l := &link{a: a, conn: c, info: hello.Info, joining: joining{partitions: a.cfg.Partitions}}
	if l.info.Grace == 0 {
		l.info.Grace = a.cfg.Lease.Milliseconds()
	}
	joining := joining{partitions: a.cfg.Partitions}
	for size := 0; ; {
		m, err := c.Read(ctx)
		if err != nil {
			return nil, join, err
		}
		switch m := m.(type) {
		case *tunnel.Answer:
			if m.Outcome != nil {
				size += len(m.Outcome.Body)
			}
			if size > joinLimit {
				return nil, join, errors.New("it brings more finished answers than fit")
			}
			join.Finished = append(join.Finished, m.Answer)
		case *tunnel.Joined:
			ended, err := joining.add(m)
			if err != nil {
				return nil, join, err
			}
			if ended {
				all := joining.whole()
				join.Epochs, join.Running, join.Instances, join.Later = all.Epochs, all.Running, all.Instances, all.Later
				return l, join, nil
			}
		default:
			return nil, join, errors.New("it sent something else before its join")
		}
	}
}

// serve runs an attached stream to its end.
func (a *Activator) serve(l *link, join runtime.JoinAnswer) {
	l.ctx, l.cancel = context.WithCancel(a.ctx)
	defer l.cancel()
	if err := a.cfg.Owners.HostUp(l.info, join, l); err != nil {
		a.refuse(l, err)
		return
	}
	a.mu.Lock()
	a.links[l] = struct{}{}
	a.mu.Unlock()
	defer a.detached(l) // whatever a message of the host does to this gateway
	a.cfg.Logger.Debug("host attached", "host", l.info.Name, "boot", l.info.Boot, "app", l.info.App)
	l.conn.Send(&tunnel.Up{})
	err := l.conn.Run(l.ctx, l.handle)
	a.cfg.Logger.Debug("host detached", "host", l.info.Name, "boot", l.info.Boot, "cause", err)
}

func (a *Activator) detached(l *link) {
	a.mu.Lock()
	delete(a.links, l)
	a.mu.Unlock()
	l.cancel()
	l.conn.Close()
	l.unchanging()
	if !l.exited.Load() {
		a.cfg.Owners.LinkDown(l.info.Boot, l)
	}
	l.requests.Wait()
}

func (a *Activator) refuse(l *link, err error) {
	ctx, cancel := context.WithTimeout(a.ctx, handshake)
	defer cancel()
	var e *runtime.Error
	if !errors.As(err, &e) {
		e = runtime.Errorf(runtime.CodeInternal, "%s", err)
	}
	a.cfg.Logger.Warn("host refused", "host", l.info.Name, "boot", l.info.Boot, "error", err)
	if e.Code == runtime.CodeHostLost {
		_ = l.conn.Write(ctx, &runtime.Verdict{Reason: e.Detail}) // the stream ends either way
	} else {
		_ = l.conn.Write(ctx, &tunnel.Refused{Code: e.Code, Detail: e.Detail})
	}
	// The host closes first, so that the message is not lost with the stream.
	_, _ = l.conn.Read(ctx)
}

// Exit takes the guard's report, POST /kar/exit {"boot":…,"reason":…}: proof
// that the processes of a boot have ended.
func (a *Activator) Exit(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	}
	var report tunnel.ExitReport
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		err = json.Unmarshal(body, &report)
	}
	if err != nil || report.Boot == "" {
		w.Header().Set("Kar-Error", string(runtime.CodeBadRequest))
		http.Error(w, `send {"boot":"…","reason":"…"}`, http.StatusBadRequest)
		return
	}
	if err := a.allowed(r, a.cfg.Sender(r), report.Boot); err != nil {
		w.Header().Set("Kar-Error", string(err.Code))
		http.Error(w, err.Detail, err.Code.Status())
		return
	}
	a.cfg.Owners.HostDown(report.Boot, report.Reason)
	w.WriteHeader(http.StatusNoContent)
}

// allowed refuses a sender who may act for one app and speaks for a boot of another.
func (a *Activator) allowed(r *http.Request, app, boot string) *runtime.Error {
	switch only := a.cfg.Sender(r); {
	case only == "":
		return nil
	case app != only:
		return runtime.Errorf(runtime.CodeForbidden, "the token is of the app %q and the host of the app %q", only, app)
	case !tunnel.BootFits(boot, only):
		return runtime.Errorf(runtime.CodeForbidden, "the token is of the app %q, and the boot %q was not made for it", only, boot)
	}
	return nil
}

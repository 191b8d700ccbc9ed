package host

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// exitGrace is how long an exit report may take before an app that broke a
// connection is taken as alive.
const exitGrace = 500 * time.Millisecond

// awaitApp waits until the app accepts connections, asks once for each actor
// type, and then lets work come.
func (h *Host) awaitApp() {
	var refused refusals
	for !h.probe() {
		if !refused.pause(h) {
			return
		}
	}
	if h.cfg.Witness != nil {
		h.cfg.Witness.Meet()
	}
	for _, t := range h.cfg.Info.Actors {
		o, err := h.app.do(h.ctx, &appRequest{method: http.MethodHead, path: "/kar/impl/v1/actor/" + segment(t), limit: 1 << 20})
		if err == nil && o.Status != http.StatusOK {
			h.cfg.Logger.Error("actor type "+t+" is not recognized by application process!", "status", o.Status)
		}
	}
	h.setListening()
}

func (h *Host) setListening() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listening = true
	h.tellCondition()
	h.settle()
	h.notify()
}

// listens is closed when the app has been found listening.
func (h *Host) listens() <-chan struct{} {
	out := make(chan struct{})
	h.wait.Go(func() {
		for {
			h.mu.Lock()
			now, changed := h.listening, h.changed
			h.mu.Unlock()
			if now {
				close(out)
				return
			}
			select {
			case <-changed:
			case <-h.ctx.Done():
				return
			}
		}
	})
	return out
}

// probe tells whether the app accepts connections.
func (h *Host) probe() bool {
	ctx, cancel := context.WithTimeout(h.ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", h.base.Host)
	if err != nil {
		return false
	}
	_ = c.Close() // it was only a question
	return h.cfg.Foreign == nil || !h.cfg.Foreign()
}

// elsewhere says where something listens on the app's port in place of 127.0.0.1:
// "localhost" is ::1 for some.
func (h *Host) elsewhere() string {
	host, port, err := net.SplitHostPort(h.base.Host)
	if err != nil || host == "::1" {
		return ""
	}
	other := net.JoinHostPort("::1", port)
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(h.ctx, "tcp", other)
	if err != nil {
		return ""
	}
	_ = c.Close()
	return "; something listens on " + other + ", which is another address: name 127.0.0.1, not localhost, in what the application listens on"
}

// refusals paces the attempts to reach an app that does not listen, and says
// so: a warning after a second, then an error every ten seconds when the app
// offers anything.
type refusals struct {
	began, told time.Time
	wait        time.Duration
}

// pause waits from 5 ms growing to 50 ms; false when the host ends.
func (r *refusals) pause(h *Host) bool {
	now := time.Now()
	if r.began.IsZero() {
		r.began = now
	}
	waited := now.Sub(r.began)
	if waited > time.Second && (r.told.IsZero() || now.Sub(r.told) > 10*time.Second) {
		e := runtime.Errorf(runtime.CodeNotListening, "the application does not listen on %s (waited %s)%s", h.base.Host, waited.Round(time.Second), h.elsewhere())
		level := slog.LevelWarn
		if !r.told.IsZero() && (h.cfg.Info.Service != "" || len(h.cfg.Info.Actors) > 0) {
			level = slog.LevelError // too long for a start, and calls may wait
		}
		h.cfg.Logger.Log(h.ctx, level, e.Detail, "code", string(e.Code), "hint", e.Code.Hint())
		r.told = now
	}
	r.wait = min(max(r.wait*3/2, 5*time.Millisecond), 50*time.Millisecond)
	return sleep(h.ctx, r.wait)
}

// restarts counts how often an app without a guard was found anew.
type restarts struct {
	count   int
	pending chan struct{} // closed when the look-out in progress has ended
}

// appGone decides what a request without a complete answer means; it was sent at began,
// and seen is restarts.count from then. errLeft: an exit will tell, or was made to
// happen. errStopped: the app was found anew, what ran in it has stopped.
func (h *Host) appGone(cause error, r *appRequest, began time.Time, seen int, inst *instance) error {
	if h.cfg.Guard != nil {
		// A dead app is reported by whoever saw its exit. A living one may
		// still run the method: an exit is the only proof that it does not.
		if sleep(h.ctx, exitGrace) {
			path, _, _ := strings.Cut(r.path, "?") // behind it is a session
			h.cfg.Logger.Error("the app broke a connection in the middle of a request; it is stopped, since nothing else proves that the request ended",
				"cause", cause, "request", r.header.Get("Kar-Request-Id"), "attempt", r.header.Get("Kar-Attempt"), "method", r.method, "path", path, "open", time.Since(began).Round(time.Millisecond),
				"hint", "a time limit of the app's server that is shorter than the method?")
			h.cfg.Guard.Kill(describe(cause))
		}
		return errLeft
	}
	h.mu.Lock()
	for h.restarts.count == seen {
		if h.restarts.pending == nil {
			h.restarts.pending = make(chan struct{})
			h.wait.Go(h.lookOut)
		}
		done := h.restarts.pending
		h.mu.Unlock()
		select {
		case <-done:
		case <-h.ctx.Done():
			return errLeft
		}
		h.mu.Lock()
	}
	defer h.mu.Unlock()
	if inst != nil && h.calls[inst.actor] <= 1 && inst.state != gone {
		h.remove(inst)
	}
	return errStopped
}

// lookOut waits until the app listens again; then it is a new boot of the app,
// without any of the instances that nobody uses.
func (h *Host) lookOut() {
	var refused refusals
	for !h.probe() {
		if !refused.pause(h) {
			return
		}
	}
	h.cfg.Logger.Warn("the app was found anew; its actors will be activated again")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restarts.count++
	for _, inst := range h.instances {
		if inst.state == active && h.calls[inst.actor] == 0 {
			h.remove(inst)
		}
	}
	close(h.restarts.pending)
	h.restarts.pending = nil
}

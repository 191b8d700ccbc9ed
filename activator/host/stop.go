package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// Drain tells the owners that this host takes nothing new and waits until what
// runs has ended, its answers are taken and they have had all actors deactivated,
// or ctx ends. The app goes on being served.
func (h *Host) Drain(ctx context.Context) error {
	return h.drain(ctx, func() bool { return len(h.attempts.table) == 0 && len(h.instances) == 0 })
}

// DrainAttempts is the same without waiting for the actors.
func (h *Host) DrainAttempts(ctx context.Context) error {
	return h.drain(ctx, func() bool { return len(h.attempts.table) == 0 })
}

func (h *Host) drain(ctx context.Context, done func() bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.draining {
		h.draining = true
		h.tellCondition()
	}
	for !done() {
		changed := h.changed
		h.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-h.ctx.Done():
			err = h.ctx.Err()
		}
		h.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Exit reports that the app's processes have ended: over the stream, or without
// one in a request of its own. Nothing may follow; Run returns. A host without a
// guard, or whose guard does not hold the app, cannot know that the app has ended: while
// anything runs or is active in it the report is an error instead, and the owners wait
// for the lease.
func (h *Host) Exit(ctx context.Context, reason string) error {
	h.mu.Lock()
	conn := h.conn
	h.exited = true
	left := h.left()
	h.mu.Unlock()
	defer h.stop()
	if left != nil {
		return left
	}
	if conn != nil {
		// Answers that are on their way count: they must be read before the exit.
		if err := conn.Flush(ctx); err == nil {
			conn.Send(&tunnel.Exit{Reason: reason})
			select {
			case <-h.exitTaken:
				return nil
			case <-conn.Done():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	h.mu.Lock()
	all := strings.Join(h.gateways.all(), ",")
	h.mu.Unlock()
	return ReportExit(ctx, all, h.cfg.Access, h.cfg.Info.Boot, reason)
}

// Unguarded says that the guard does not hold the app: it listens outside of the tree of
// processes that the guard knows, so the end of those is no proof that the app has ended.
func (h *Host) Unguarded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unguarded = true
}

// left is what speaks against an exit report; h.mu is held.
func (h *Host) left() *runtime.Error {
	if h.cfg.Guard != nil && !h.unguarded {
		return nil
	}
	running := 0
	for _, p := range h.parts {
		running += p.running
	}
	if running == 0 && len(h.instances) == 0 {
		return nil
	}
	return runtime.Errorf(runtime.CodeHostLost, "%d requests run and %d actors are active in an app that is not ours to stop", running, len(h.instances))
}

// ReportExit tells one of the gateways, a list as in [Config], that a boot has
// ended, without a stream; the guard uses it when the sidecar is gone.
func ReportExit(ctx context.Context, gateway string, access Access, boot, reason string) error {
	list, err := SplitGateways(gateway)
	if err != nil {
		return err
	}
	for {
		refused := 0
		for _, g := range list {
			err = reportExitTo(ctx, g, len(list) > 1, access, boot, reason)
			if err == nil || ctx.Err() != nil {
				return err
			}
			var e *runtime.Error
			if errors.As(err, &e) && (e.Code == runtime.CodeUnauthorized || e.Code == runtime.CodeForbidden) {
				refused++
			}
		}
		if refused == len(list) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// reportExitTo tells one gateway; when there are others it may not take long.
func reportExitTo(ctx context.Context, gateway string, others bool, access Access, boot, reason string) error {
	client, err := access.Client(gateway)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, dialLimit)
		defer cancel()
	}
	return reportExitOnce(ctx, client, gateway, boot, reason)
}

func reportExitOnce(ctx context.Context, client *http.Client, gateway, boot, reason string) error {
	body, err := json.Marshal(tunnel.ExitReport{Boot: boot, Reason: reason})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, gatewayURL(gateway)+tunnel.ExitPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return runtime.Errorf(runtime.CodeNoGateway, "the gateway answered an exit report with status %d", res.StatusCode)
	}
	return nil
}

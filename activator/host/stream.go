package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

const handshake = 10 * time.Second

// gatewayURL is the address in the form that an HTTP client takes.
func gatewayURL(gateway string) string {
	if strings.HasPrefix(gateway, "unix://") {
		return "http://kar"
	}
	return strings.TrimSuffix(gateway, "/")
}

// spread keeps the hosts of a lost gateway from coming all at once. A local
// gateway has few.
func (h *Host) spread() time.Duration {
	if strings.HasPrefix(h.gateways.configured[0], "unix://") {
		return time.Duration(rand.Int64N(int64(5 * time.Millisecond)))
	}
	return time.Duration(rand.Int64N(int64(200 * time.Millisecond)))
}

// stream serves one stream to a gateway from dial to end. Dialling, until the
// gateway has said something, may take as long as limit.
func (h *Host) stream(gateway string, limit time.Duration) (joined bool, err error) {
	if h.cfg.Ensure != nil {
		if gateway, err = h.cfg.Ensure(h.ctx); err != nil {
			h.sayNoGateway(err)
			return false, err
		}
	}
	client, err := h.cfg.Access.Client(gateway)
	if err != nil {
		return false, err
	}
	defer client.CloseIdleConnections()
	dial, stop := context.WithTimeout(h.ctx, limit)
	defer stop()
	dialled := tunnel.BootTime()
	ws, _, err := websocket.Dial(dial, gatewayURL(gateway)+tunnel.Path, &websocket.DialOptions{ //nolint:bodyclose // the package says it need never be closed
		HTTPClient: client, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return false, err
	}
	h.mu.Lock()
	body := h.bodyLimit
	h.mu.Unlock()
	c := tunnel.New(ws, tunnel.Limits{Message: max(body, 64<<20) + 2<<20})
	defer c.Close()
	first, err := c.Read(dial)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, handshake)
	defer cancel()
	sent, told, err := h.join(ctx, c, first, dialled)
	if err != nil {
		return false, err
	}
	cancel()
	h.mu.Lock()
	// Every beat is answered, once the owners have taken the join, which takes
	// seconds while one of them is missing.
	c.ExpectWithin(max(3*h.lease, 3*time.Second))
	h.mu.Unlock()
	h.joined(c, sent, told)
	err = c.Run(h.ctx, h.handle)
	h.mu.Lock()
	h.conn = nil
	h.mu.Unlock()
	return true, err
}

// sayNoGateway says once a minute that no gateway can be started: the app may stand
// still until one is.
func (h *Host) sayNoGateway(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() == nil && (h.saidNoGateway.IsZero() || time.Since(h.saidNoGateway) >= time.Minute) {
		h.saidNoGateway = time.Now()
		h.cfg.Logger.Error("no gateway can be started", "error", err)
	}
}

// join answers the gateway's question: what has finished, what runs, what is
// active. It returns the boot time at which the answer was sent, and what was
// told of its condition. The question was asked after dialled.
func (h *Host) join(ctx context.Context, c *tunnel.Conn, m tunnel.Message, dialled time.Duration) (sent time.Duration, told tunnel.Changed, err error) {
	w, ok := m.(*tunnel.Welcome)
	if !ok {
		return 0, told, h.refused(m)
	}
	if w.Protocol != tunnel.Protocol {
		return 0, told, runtime.Errorf(runtime.CodeGatewayTooOld,
			"the running gateway (version %s) and this kar (version %s) speak different versions of the tunnel", w.Version, h.cfg.Version)
	}
	if err := h.meet(w.Mesh); err != nil {
		return 0, told, err
	}
	info, finished, joined := h.snapshot(w, dialled)
	if err := c.Write(ctx, &tunnel.Hello{Protocol: tunnel.Protocol, Version: h.cfg.Version, Info: info}); err != nil {
		return 0, told, err
	}
	for i := range finished {
		if err := c.Write(ctx, &tunnel.Answer{Answer: finished[i]}); err != nil {
			return 0, told, err
		}
	}
	sent = tunnel.BootTime()
	for _, piece := range joined.Pieces() {
		if err := c.Write(ctx, piece); err != nil {
			return 0, told, err
		}
	}
	return sent, tunnel.Changed{Draining: info.Draining, Frozen: info.Frozen}, nil
}

// snapshot takes over what the gateway said and says what is to be answered.
// What ends from then on goes to unsent, so that nothing is told twice or not at all.
func (h *Host) snapshot(w *tunnel.Welcome, dialled time.Duration) (runtime.HostInfo, []runtime.Answer, *tunnel.Joined) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hearClock(w.WallMillis, dialled)
	if h.partitions == 0 {
		close(h.welcomed)
	}
	h.partitions = max(w.Partitions, 1)
	h.lease = time.Duration(w.LeaseMillis) * time.Millisecond
	if w.BodyLimit > 0 {
		h.bodyLimit = w.BodyLimit
	}
	h.gateways.tell(w.Gateways)
	h.parts.at(uint16(min(h.partitions, 1<<16) - 1))
	fresh, later := h.parts.fence(w.Epochs)
	stale := make(map[uint16]bool, len(later))
	for _, t := range later {
		stale[t.Partition] = true
	}
	info := h.cfg.Info
	info.Grace = w.LeaseMillis
	now := h.condition()
	info.Draining, info.Frozen = now.Draining, now.Frozen
	h.attachment++
	info.Attachment = h.attachment
	finished, running := h.attempts.snapshot(func(p uint16) bool { return !stale[p] })
	joined := &tunnel.Joined{Epochs: fresh, Running: running, Later: later}
	for a, inst := range h.instances {
		if !stale[inst.partition] {
			joined.Instances = append(joined.Instances, a)
		}
	}
	h.unsent = nil
	return info, finished, joined
}

// joined opens the stream to everybody and tells what ended meanwhile.
func (h *Host) joined(c *tunnel.Conn, sent time.Duration, told tunnel.Changed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = false
	h.beginLease(sent)
	for _, m := range h.unsent {
		c.Send(m)
	}
	h.unsent = nil
	h.conn = c
	if now := h.condition(); now != told {
		c.Send(&now)
	}
	h.beat(c)
	h.resend(c)
}

// send tells the owners something that a join would repeat; h.mu is held.
func (h *Host) send(m tunnel.Message) {
	if h.conn == nil {
		h.unsent = append(h.unsent, m)
		return
	}
	h.conn.Send(m)
}

// handle takes one message of the gateway; the reader calls it, one at a time.
func (h *Host) handle(m tunnel.Message) {
	switch m := m.(type) {
	case *runtime.Invoke:
		h.invoke(m)
	case *tunnel.Response:
		h.response(m)
	case *runtime.Taken:
		h.mu.Lock()
		h.attempts.taken(m.Attempts)
		h.notify()
		h.mu.Unlock()
	case *tunnel.BeatAnswer:
		h.kept(m)
	case *runtime.Deactivate:
		h.deactivate(m)
	case *runtime.JoinAsk:
		h.joinAsk(m)
	case *runtime.TermLost:
		h.termLost(m)
	case *tunnel.Up:
		h.answered()
	case *runtime.Verdict, *tunnel.Refused:
		over := h.over()
		if err := h.refused(m); !over {
			h.cfg.Logger.Error("the gateway refused this host", "error", err)
		}
	}
}

// over tells whether the end of the app was seen: nothing counts after it.
func (h *Host) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.exited
}

// refused acts on a first or later message that ends the stream.
func (h *Host) refused(m tunnel.Message) error {
	switch m := m.(type) {
	case *runtime.Verdict:
		err := runtime.Errorf(runtime.CodeHostLost, "this host was counted lost: %s", m.Reason)
		if h.over() { // this side has said so itself
			return err
		}
		h.mu.Lock()
		h.lost = err
		h.mu.Unlock()
		if h.cfg.Guard != nil {
			h.cfg.Guard.Kill(err.Detail)
		}
		h.stop()
		return err
	case *tunnel.Refused:
		err := runtime.Errorf(m.Code, "%s", m.Detail)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.refusal = err
		if h.conn != nil {
			h.conn.Close()
		}
		return err
	}
	return errors.New("the gateway did not begin with a welcome")
}

// answered takes the gateway's word that it has the join, or after an exit, the exit.
func (h *Host) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.exited {
		h.up = true
		h.leaseInfo.answered = tunnel.BootTime()
		h.settle()
		return
	}
	select {
	case <-h.exitTaken:
	default:
		close(h.exitTaken)
	}
}

// settle closes ready once; h.mu is held.
func (h *Host) settle() {
	if !h.up || !h.listening {
		return
	}
	select {
	case <-h.ready:
	default:
		close(h.ready)
	}
}

package host

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

const (
	// Above this much waiting to be written, further large requests of the app wait.
	roomForRequests = 16 << 20
	longWait        = time.Second
	askAgainAfter   = 20 * time.Millisecond
	gotBatch        = 64
)

// pendingCalls are the app's API requests without an answer; the host's mutex guards them.
type pendingCalls struct {
	seq   uint64
	calls map[uint64]*apiCall
	got   []runtime.ID // outcomes that arrived and that the gateway need not keep
}

// apiCall is one request of the app. It is sent again under its id on each new
// stream until an answer comes.
type apiCall struct {
	req    *tunnel.Request
	target runtime.Target // none for what needs no id
	key    string         // its Idempotency-Key, where it means something
	plain  bool           // a call whose outcome only this sidecar waits for
	change bool           // of state, reminders or subscriptions: its answer too is kept until it is here
	tries  int            // answers that said nothing, in a row
	open   bool           // it was sent before, and may have been accepted then
	since  time.Time
	told   bool
	done   chan *tunnel.Response
}

// Handler is the sidecar's REST API, /kar/v1/…: what concerns this process is
// answered here, everything else by the gateway.
func (h *Host) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.local(w, r) {
			h.pass(w, r)
		}
	})
}

// pass sends a request through the tunnel and relays the answer.
func (h *Host) pass(w http.ResponseWriter, r *http.Request) {
	body, e := h.body(r)
	if e != nil {
		fail(w, e)
		return
	}
	h.askOnce.Do(func() { close(h.wanted) })
	select {
	case <-h.welcomed:
	case <-r.Context().Done():
		return
	case <-h.ctx.Done():
		fail(w, shuttingDown())
		return
	}
	path := r.URL.EscapedPath()
	call := &apiCall{since: time.Now(), done: make(chan *tunnel.Response, 1)}
	call.req = &tunnel.Request{Method: r.Method, Path: path, Header: runtime.Header(r.Header), Body: body}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		call.req.Path += "?" + r.URL.RawQuery
	}
	call.req.Header.DropHopByHop()
	delete(call.req.Header, "Content-Length")
	for k, v := range h.cfg.DefaultHeader {
		if _, set := call.req.Header[k]; !set {
			call.req.Header[k] = v
		}
	}
	h.identify(call, path)
	res, err := h.ask(r.Context(), call)
	if err != nil {
		if !errors.Is(err, context.Canceled) || h.ctx.Err() != nil {
			fail(w, shuttingDown())
		}
		return
	}
	header := w.Header()
	for k, v := range res.Header {
		header[k] = v
	}
	if _, set := header["Content-Type"]; !set {
		header["Content-Type"] = nil // nothing is to be guessed
	}
	w.WriteHeader(res.Status)
	if len(res.Body) > 0 && r.Method != http.MethodHead {
		_, _ = w.Write(res.Body) // the app has gone; nobody else is to be told
	}
	if call.plain || call.change {
		h.arrived(call.req.ID)
	}
}

func shuttingDown() *runtime.Error {
	return runtime.Errorf(runtime.CodeShutdown, "Service Unavailable")
}

// fail answers with an error as KAR 1.x did, and its code.
func fail(w http.ResponseWriter, e *runtime.Error) {
	w.Header().Set("Kar-Error", string(e.Code))
	http.Error(w, e.Detail, e.Code.Status())
}

func (h *Host) body(r *http.Request) ([]byte, *runtime.Error) {
	h.mu.Lock()
	limit := h.bodyLimit
	h.mu.Unlock()
	tooLarge := runtime.Errorf(runtime.CodeTooLarge, "the body is larger than %d bytes", limit)
	if r.ContentLength > int64(limit) {
		return nil, tooLarge
	}
	if n := r.ContentLength; n >= 0 {
		if n == 0 {
			return nil, nil
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return nil, runtime.Errorf(runtime.CodeBadRequest, "the body ended early: %s", err)
		}
		return b, nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeBadRequest, "the body ended early: %s", err)
	}
	if len(b) > limit {
		return nil, tooLarge
	}
	return b, nil
}

// identify says what must be known of a request to make an id, for what the owner must
// carry out at most once.
func (h *Host) identify(c *apiCall, path string) {
	t, what := h.target(c.req.Method, path)
	if what == nothing {
		return
	}
	c.target = t
	pragma := c.req.Header["Pragma"]
	named := func(v string) bool {
		return slices.ContainsFunc(pragma, func(p string) bool { return strings.EqualFold(strings.TrimSpace(p), v) })
	}
	c.change = what == aChange
	if what == aCall { // it means nothing elsewhere
		c.key = c.req.Header.Get("Idempotency-Key")
	}
	c.plain = what == aCall && c.key == "" && !named("async") && !named("promise")
}

// newID is an id for a request that nobody was given yet; h.mu is held.
func (h *Host) newID(c *apiCall) runtime.ID {
	var random [8]byte
	binary.BigEndian.PutUint64(random[:], rand.Uint64())
	now, app := h.clock.now(), h.cfg.Info.App
	id := runtime.NewID(now, 0, app, [6]byte(random[:6]))
	return runtime.NewID(now, runtime.PartitionOf(c.target, c.key, id, h.partitions), app, [6]byte(random[:6]))
}

// put gives a request to a stream. Its id is made the first time, however long it has
// waited for a stream: owners refuse old ids, because they may have seen them before,
// and this one nobody has. h.mu is held.
func (h *Host) put(conn *tunnel.Conn, c *apiCall) {
	if c.req.ID.IsZero() && c.target != (runtime.Target{}) {
		c.req.ID = h.newID(c)
	}
	conn.Send(c.req)
}

// What a request asks for, as far as its id is concerned.
const (
	nothing  = iota // no id is needed: it only reads, or may be repeated
	aCall           // of a service or an actor
	aRemoval        // of an actor
	aChange         // of an actor's state, reminders or subscriptions
	anEvent         // to be published
)

// target reads whom a request is for and what it asks for.
func (h *Host) target(method, path string) (t runtime.Target, what int) {
	rest, found := strings.CutPrefix(path, "/kar/v1/")
	if !found {
		return t, nothing
	}
	parts := strings.SplitN(rest, "/", 5)
	for i := 1; i < len(parts) && i < 3; i++ {
		s, err := url.PathUnescape(parts[i])
		if err != nil {
			return t, nothing
		}
		parts[i] = s
	}
	t.App = h.cfg.Info.App
	reads := method == http.MethodGet || method == http.MethodHead
	switch {
	case parts[0] == "service" && len(parts) >= 3 && parts[2] == "call":
		t.Service = parts[1]
		return t, aCall
	case parts[0] == "event" && len(parts) == 3 && parts[2] == "publish" && method == http.MethodPost:
		return t, anEvent
	case parts[0] != "actor" || len(parts) < 3:
		return runtime.Target{}, nothing
	}
	t.Type, t.ID = parts[1], parts[2]
	switch {
	case len(parts) == 3 && method == http.MethodDelete:
		return t, aRemoval
	case len(parts) < 4:
	case parts[3] == "call" && method == http.MethodPost:
		return t, aCall
	case (parts[3] == "state" || parts[3] == "reminders" || parts[3] == "events") && !reads:
		return t, aChange
	}
	return runtime.Target{}, nothing
}

// ask waits for the answer over however many streams it takes.
func (h *Host) ask(ctx context.Context, c *apiCall) (*tunnel.Response, error) {
	h.mu.Lock()
	conn := h.conn
	h.mu.Unlock()
	if conn != nil && len(c.req.Body) > inlineBody {
		if err := conn.Room(ctx, roomForRequests); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	h.api.seq++
	c.req.Seq = h.api.seq
	h.api.calls[c.req.Seq] = c
	if h.conn != nil {
		h.put(h.conn, c)
	}
	h.mu.Unlock()
	select {
	case res := <-c.done:
		return res, nil
	case <-ctx.Done():
	case <-h.ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.api.calls, c.req.Seq)
	if h.conn != nil {
		h.conn.Send(&tunnel.Cancel{Seq: c.req.Seq})
	}
	return nil, context.Canceled
}

// resend repeats everything without an answer on a new stream; h.mu is held.
func (h *Host) resend(conn *tunnel.Conn) {
	seqs := make([]uint64, 0, len(h.api.calls))
	for seq := range h.api.calls {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		c := h.api.calls[seq]
		c.open = true
		h.put(conn, c)
	}
}

// response takes an answer of the gateway; the reader calls it.
func (h *Host) response(m *tunnel.Response) {
	h.mu.Lock()
	c := h.api.calls[m.Seq]
	if c == nil {
		h.mu.Unlock()
		return
	}
	if refused := m.Header.Get("Kar-Error"); m.Status == http.StatusServiceUnavailable &&
		(refused == string(runtime.CodeAskAgain) || refused != "" && c.open && c.target != runtime.Target{}) {
		// A refusal speaks of one try; an earlier one may have been accepted.
		c.open = true
		pause := min(askAgainAfter<<min(c.tries, 6), time.Second)
		c.tries++
		h.mu.Unlock()
		h.wait.Go(func() { h.again(m.Seq, pause) })
		return
	}
	delete(h.api.calls, m.Seq)
	h.mu.Unlock()
	c.done <- m
}

// again repeats a request that the owner could not take yet.
func (h *Host) again(seq uint64, pause time.Duration) {
	if !sleep(h.ctx, pause) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.api.calls[seq]; c != nil && h.conn != nil {
		h.put(h.conn, c)
	}
}

// arrived notes an outcome that need not be kept; the gateway is told in batches.
func (h *Host) arrived(id runtime.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.api.got = append(h.api.got, id)
	if len(h.api.got) >= gotBatch {
		h.flushGot()
	}
}

// flushGot tells the gateway what has arrived; h.mu is held. Without a stream
// the ids wait, as far as that is worth it: they end with the id window anyway.
func (h *Host) flushGot() {
	if len(h.api.got) == 0 {
		return
	}
	if h.conn != nil {
		h.conn.Send(&tunnel.Got{IDs: h.api.got})
		h.api.got = nil
	} else if len(h.api.got) > 1<<16 {
		h.api.got = nil
	}
}

// longWaiting lists calls that nobody was told about yet; h.mu is held.
func (h *Host) longWaiting() (out []*apiCall) {
	if h.cfg.OnWaiting == nil {
		return nil
	}
	now := time.Now()
	for _, c := range h.api.calls {
		if !c.told && c.plain && now.Sub(c.since) > longWait {
			c.told = true
			out = append(out, c)
		}
	}
	return out
}

package activator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// URLService is a service that is reached by URL.
type URLService struct {
	App, Name, URL string
	// Timeout is how long one attempt may take; 0 means 1 min. An attempt
	// whose end is not known is counted as stopped when it has passed.
	Timeout time.Duration
}

// URLHosts keeps one host attached for each url service.
type URLHosts struct {
	owners runtime.Owners
	node   string
	limit  int
	log    *slog.Logger
	client *http.Client

	mu     sync.Mutex
	hosts  map[string]*urlHost // by what boot returns
	lost   int                 // how many were lost or left; makes the next boot id another
	closed bool
	wait   sync.WaitGroup
}

// NewURLHosts makes an empty set. Node is the boot id of the gateway, so that
// boot ids differ between its starts. BodyLimit 0 means 4 MiB.
func NewURLHosts(owners runtime.Owners, node string, bodyLimit int, log *slog.Logger) *URLHosts {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if bodyLimit == 0 {
		bodyLimit = 4 << 20
	}
	return &URLHosts{
		owners: owners, node: node, limit: bodyLimit, log: log, hosts: map[string]*urlHost{},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DisableCompression: true,
				// On a kept connection net/http sends some requests a second time, and
				// a reset may only mean that the connection was old.
				DisableKeepAlives: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Set replaces the list: what is new is attached, what is gone takes no new
// work and is detached when its calls have ended.
func (u *URLHosts) Set(list []URLService) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	wanted := map[string]bool{}
	for _, s := range list {
		if s.Timeout <= 0 {
			s.Timeout = time.Minute
		}
		boot := u.boot(s)
		wanted[boot] = true
		if u.hosts[boot] == nil {
			u.attach(boot, s)
		}
	}
	for boot, h := range u.hosts {
		if !wanted[boot] {
			delete(u.hosts, boot)
			u.lost++ // the same service may come again, and a boot that has left may not
			h.leave()
		}
	}
}

// boot is stable while node, app, name, URL and time limit are.
func (u *URLHosts) boot(s URLService) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{u.node, s.App, s.Name, s.URL, s.Timeout.String()}, "\x00")))
	return "url-" + hex.EncodeToString(sum[:12])
}

// attach makes the host; u.mu is held.
func (u *URLHosts) attach(key string, s URLService) {
	boot := key
	if u.lost > 0 {
		boot += "-" + strconv.Itoa(u.lost)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &urlHost{set: u, key: key, service: s, timeout: s.Timeout, ctx: ctx, cancel: cancel, ran: map[runtime.Attempt]bool{}, info: runtime.HostInfo{
		Boot: boot, App: s.App, Name: s.URL, Service: s.Name, URL: strings.TrimSuffix(s.URL, "/"),
		Grace: s.Timeout.Milliseconds(),
	}}
	if err := u.owners.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
		u.log.Error("a url service could not be attached", "service", s.Name, "app", s.App, "error", err)
		cancel()
		return
	}
	u.hosts[key] = h
	u.wait.Add(1)
	go h.beat()
}

// replace attaches the service of a lost host under a new boot.
func (u *URLHosts) replace(h *urlHost) {
	u.log.Error("a url service was counted lost and is attached anew", "service", h.service.Name, "app", h.service.App)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.hosts[h.key] != h {
		return
	}
	delete(u.hosts, h.key)
	u.lost++
	u.attach(h.key, h.service)
}

// Close lets the calls in flight end with "unknown", as a lost gateway would,
// and returns when nothing runs any more. The owners are told nothing: a later
// gateway waits for the time limits.
func (u *URLHosts) Close() error {
	u.mu.Lock()
	u.closed = true
	for _, h := range u.hosts {
		h.cancel()
	}
	u.hosts = map[string]*urlHost{}
	u.mu.Unlock()
	u.wait.Wait()
	u.client.CloseIdleConnections()
	return nil
}

// urlHost is one service; it is its own [runtime.Link].
type urlHost struct {
	set     *URLHosts
	key     string
	service URLService
	info    runtime.HostInfo
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelFunc

	mu    sync.Mutex
	ran   map[runtime.Attempt]bool // until taken; false while running
	calls sync.WaitGroup
}

// Send starts what is asked for. Each attempt runs at most once.
func (h *urlHost) Send(m runtime.HostMessage) {
	switch m := m.(type) {
	case *runtime.Invoke:
		h.mu.Lock()
		_, seen := h.ran[m.Attempt]
		if seen || h.ctx.Err() != nil {
			h.mu.Unlock()
			return
		}
		h.ran[m.Attempt] = false
		h.calls.Add(1)
		h.mu.Unlock()
		go h.run(m)
	case *runtime.Taken:
		h.mu.Lock()
		for _, a := range m.Attempts {
			delete(h.ran, a)
		}
		h.mu.Unlock()
	case *runtime.Deactivate:
		go h.set.owners.Deactivated(h.info.Boot, m.Actor, m.Partition)
	}
}

// Rejoin attaches the service anew after the engine has rebuilt a partition,
// which knows nothing of hosts that its log does not name. The new boot gets
// new work; the old one ends with its calls. It does not block, for the
// partition that asks is not up yet.
func (h *urlHost) Rejoin() {
	h.set.wait.Add(1)
	go func() {
		defer h.set.wait.Done()
		u := h.set
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.closed || u.hosts[h.key] != h {
			return
		}
		delete(u.hosts, h.key)
		u.lost++
		h.leave()
		u.attach(h.key, h.service)
	}()
}

// leave drains: calls in flight end, then the host is gone for good.
func (h *urlHost) leave() {
	info := h.info
	info.Draining = true
	h.set.owners.HostChanged(info)
	h.set.wait.Add(1)
	go func() {
		defer h.set.wait.Done()
		h.calls.Wait()
		h.cancel()
		h.set.owners.HostDown(info.Boot, "the service was removed")
	}()
}

// beat keeps the owners from counting the host lost: this gateway lives, and
// with it what is known of the calls in flight.
func (h *urlHost) beat() {
	defer h.set.wait.Done()
	t := time.NewTicker(max(h.timeout/4, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-h.ctx.Done():
			h.calls.Wait()
			return
		case <-t.C:
			if _, lost := h.set.owners.Beat(h.info.Boot); lost {
				h.cancel()
				h.set.replace(h)
			}
		}
	}
}

func (h *urlHost) run(m *runtime.Invoke) {
	defer h.calls.Done()
	limit := h.timeout
	if m.Limit > 0 {
		limit = min(limit, time.Duration(m.Limit)*time.Millisecond)
	}
	began := time.Now()
	o, err := h.call(m, limit)
	if err != nil && !neverSent(err) {
		// Nothing proves that the attempt has stopped but the end of its time.
		h.set.log.Warn("a url service gave no complete answer", "service", h.info.Service, "app", h.info.App, "request", m.Attempt.ID, "error", err)
		rest := time.NewTimer(time.Until(began.Add(h.timeout)))
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-h.ctx.Done():
			return
		}
	} else if err != nil && h.ctx.Err() != nil {
		return
	}
	h.set.owners.Answered(h.info.Boot, runtime.Answer{Attempt: m.Attempt, Outcome: o})
}

// call does the request; a nil error means that the answer is complete.
func (h *urlHost) call(m *runtime.Invoke, limit time.Duration) (*runtime.Outcome, error) {
	ctx, cancel := context.WithTimeout(h.ctx, limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, m.Method, h.info.URL+m.Path, bytes.NewReader(m.Body))
	if err != nil {
		return runtime.Errorf(runtime.CodeBadRequest, "the request cannot be sent to %s: %s", h.info.URL, err).Outcome(), nil
	}
	if len(m.Body) == 0 {
		r.Body = nil
	}
	for k, v := range m.Header {
		r.Header[k] = v
	}
	tunnel.DropHopByHop(runtime.Header(r.Header))
	res, err := h.set.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end or is of no use
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(h.set.limit)+1))
	if err == nil && len(body) > h.set.limit {
		_, err = io.Copy(io.Discard, res.Body)
		body = nil
		if err == nil {
			return runtime.Errorf(runtime.CodeResultTooLarge, "the answer of %s is larger than %d bytes", h.info.URL, h.set.limit).Outcome(), nil
		}
	}
	if err != nil {
		return nil, err
	}
	header := runtime.Header(res.Header)
	tunnel.DropHopByHop(header)
	return &runtime.Outcome{Status: res.StatusCode, Header: header, Body: body}, nil
}

// neverSent tells errors before the first byte of the request left.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial"
}

package activator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
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
	// Proxied tells that there is a proxy before the service.
	Proxied bool
}

// URLHosts keeps one host attached for each url service.
type URLHosts struct {
	owners runtime.Owners
	node   string
	limit  int
	log    *slog.Logger
	client *http.Client
	proxy  func(*http.Request) (*url.URL, error)
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

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
	ctx, cancel := context.WithCancel(context.Background())
	return &URLHosts{
		ctx: ctx, cancel: cancel,
		owners: owners, node: node, limit: bodyLimit, log: log, hosts: map[string]*urlHost{},
		proxy: http.ProxyFromEnvironment,
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
		s.Timeout = max(s.Timeout, runtime.LeastServiceTimeout) // of before there was one
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

// boot is stable while node and service are.
func (u *URLHosts) boot(s URLService) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{u.node, s.App, s.Name, s.URL, s.Timeout.String(), strconv.FormatBool(s.Proxied)}, "\x00")))
	return "url-" + hex.EncodeToString(sum[:12])
}

// attach makes the host; u.mu is held.
func (u *URLHosts) attach(key string, s URLService) {
	boot := key
	if u.lost > 0 {
		boot += "-" + strconv.Itoa(u.lost)
	}
	ctx, cancel := context.WithCancel(u.ctx)
	h := newURLHost(u, s)
	h.key, h.ctx, h.cancel, h.info.Boot = key, ctx, cancel, boot
	join := runtime.JoinAnswer{Epochs: u.owners.Epochs()}
	for _, e := range join.Epochs {
		h.epochs[e.Partition] = e.Epoch
	}
	if err := u.owners.HostUp(h.info, join, h); err != nil {
		u.log.Error("a url service could not be attached", "service", s.Name, "app", s.App, "error", err)
		cancel()
		return
	}
	u.hosts[key] = h
	u.wait.Go(h.beat)
	u.wait.Go(h.tellOwners)
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
	u.hosts = map[string]*urlHost{}
	u.mu.Unlock()
	u.cancel()
	u.wait.Wait()
	u.client.CloseIdleConnections()
	return nil
}

// urlHost is one service; it is its own [runtime.Link].
//
// An attempt has stopped at the latest when its time limit has passed. So that
// an owner can count from the last contact, an attempt starts only while the
// owner of its partition has answered a beat that was sent less than window ago,
// and the grace is both together.
type urlHost struct {
	set     *URLHosts
	key     string
	service URLService
	info    runtime.HostInfo
	timeout time.Duration
	window  time.Duration
	proxied bool
	ctx     context.Context
	cancel  context.CancelFunc
	nudge   chan struct{} // a beat is wanted now
	wake    chan struct{} // there is something to tell
	calls   sync.WaitGroup

	mu     sync.Mutex
	epochs map[uint16]uint64 // the highest seen
	ran    map[runtime.Attempt]*urlAttempt
	held   int                      // bytes of answers in ran
	late   []*runtime.Invoke        // arrived while they may not start
	tells  []func()                 // what the owners have to be told, in order
	beaten time.Duration            // boot time of the last answered beat
	silent map[uint16]time.Duration // the same for partitions that did not answer it
}

// urlAttempt is kept until the answer is taken.
type urlAttempt struct {
	done   bool
	answer runtime.Answer
	size   int
}

// keepLimit is how many bytes of answers a url host keeps until they are taken.
// Beyond it they are lost for a later owner, which permits a retry.
const keepLimit = 64 << 20

// The window asks for three beats of each service, so a short time limit must not
// make it short.
const (
	shortestWindow = time.Second
	longestWindow  = 30 * time.Second
)

func newURLHost(u *URLHosts, s URLService) *urlHost {
	window := min(max(s.Timeout/2, shortestWindow), longestWindow)
	return &urlHost{
		set: u, service: s, timeout: s.Timeout, window: window, proxied: s.Proxied || u.viaProxy(s.URL),
		nudge: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		epochs: map[uint16]uint64{}, ran: map[runtime.Attempt]*urlAttempt{}, silent: map[uint16]time.Duration{},
		beaten: tunnel.BootTime(), // the join is contact
		info: runtime.HostInfo{
			App: s.App, Name: s.URL, Service: s.Name, URL: strings.TrimSuffix(s.URL, "/"),
			Grace: (s.Timeout + window).Milliseconds(),
		},
	}
}

// viaProxy tells whether this process reaches the address through a proxy of its own.
func (u *URLHosts) viaProxy(address string) bool {
	to, err := url.Parse(address)
	if err != nil {
		return false
	}
	proxy, err := u.proxy(&http.Request{URL: to})
	return err != nil || proxy != nil
}

// Send takes what an owner wants. Each attempt runs at most once.
func (h *urlHost) Send(m runtime.HostMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return
	}
	switch m := m.(type) {
	case *runtime.Invoke:
		h.invoke(m)
	case *runtime.Taken:
		for _, a := range m.Attempts {
			if e := h.ran[a]; e != nil && e.done {
				h.held -= e.size
				delete(h.ran, a)
			}
		}
	case *runtime.Deactivate:
		if h.admit(m.Partition, m.Epoch) { // it has no actors, so it is not active here
			h.tell(func() { h.set.owners.Deactivated(h.info.Boot, *m) })
		}
	case *runtime.JoinAsk:
		h.joinAsk(m)
	}
}

// admit tells whether a message of this epoch may be obeyed, and remembers the
// epoch; h.mu is held, as for all that follow.
func (h *urlHost) admit(partition uint16, epoch uint64) bool {
	if epoch < h.epochs[partition] {
		return false
	}
	h.epochs[partition] = epoch
	return true
}

func (h *urlHost) invoke(m *runtime.Invoke) {
	if !h.admit(m.Attempt.Partition, m.Epoch) {
		return
	}
	if e := h.ran[m.Attempt]; e != nil {
		if e.done { // the answer was lost on the way
			answer := e.answer
			h.tell(func() { h.set.owners.Answered(h.info.Boot, answer) })
		}
		return
	}
	h.ran[m.Attempt] = &urlAttempt{}
	h.calls.Add(1)
	if !h.mayStart(m.Attempt.Partition) {
		h.late = append(h.late, m)
		signal(h.nudge)
		return
	}
	go h.run(m)
}

func (h *urlHost) mayStart(partition uint16) bool {
	at, silent := h.silent[partition]
	if !silent {
		at = h.beaten
	}
	return tunnel.BootTime()-at <= h.window
}

// joinAsk reports what has finished, then what runs. What ends later is told
// behind it.
func (h *urlHost) joinAsk(m *runtime.JoinAsk) {
	join := runtime.JoinAnswer{}
	asked := map[uint16]bool{}
	for _, e := range m.Epochs {
		if h.admit(e.Partition, e.Epoch) {
			join.Epochs = append(join.Epochs, e)
			asked[e.Partition] = true
		}
	}
	if len(asked) == 0 {
		return
	}
	for a, e := range h.ran {
		switch {
		case !asked[a.Partition]:
			continue
		case e.done:
			answer := e.answer
			h.tell(func() { h.set.owners.Answered(h.info.Boot, answer) })
		}
		join.Running = append(join.Running, a) // what has finished too, see [runtime.JoinAnswer]
	}
	h.tell(func() { h.set.owners.Joined(h.info.Boot, h, join.Epochs, join) })
}

// tell queues what the owners have to know: they must not be called from Send.
func (h *urlHost) tell(f func()) {
	h.tells = append(h.tells, f)
	signal(h.wake)
}

// tellOwners tells them, in order.
func (h *urlHost) tellOwners() {
	for {
		h.mu.Lock()
		tells := h.tells
		h.tells = nil
		h.mu.Unlock()
		for _, f := range tells {
			f()
		}
		select {
		case <-h.wake:
		case <-h.ctx.Done():
			return
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// leave drains: calls in flight end, then the host is gone for good.
func (h *urlHost) leave() {
	info := h.info
	info.Draining = true
	h.set.owners.HostChanged(info)
	h.set.wait.Go(func() {
		h.calls.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tell(func() { // behind the answers
			h.cancel()
			h.set.owners.HostDown(info.Boot, "the service was removed")
		})
	})
}

// beat keeps the owners from counting the host lost: this gateway lives, and
// with it what is known of the calls in flight.
func (h *urlHost) beat() {
	t := time.NewTicker(h.window / 3)
	defer t.Stop()
	for {
		select {
		case <-h.ctx.Done():
			h.dropLate()
			h.calls.Wait()
			return
		case <-t.C:
		case <-h.nudge:
		}
		sent := tunnel.BootTime()
		silent, lost := h.set.owners.Beat(h.info.Boot)
		if lost {
			h.cancel()
			h.set.replace(h)
			continue
		}
		h.kept(sent, silent)
	}
}

// kept notes who has answered a beat, and starts what waited for that.
func (h *urlHost) kept(sent time.Duration, silent []uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, old := h.beaten, h.silent
	h.beaten, h.silent = sent, make(map[uint16]time.Duration, len(silent))
	for _, p := range silent {
		at, was := old[p]
		if !was {
			at = before
		}
		h.silent[p] = at
	}
	if h.ctx.Err() != nil {
		return
	}
	rest := h.late[:0]
	for _, m := range h.late {
		if h.mayStart(m.Attempt.Partition) {
			go h.run(m)
		} else {
			rest = append(rest, m)
		}
	}
	clear(h.late[len(rest):])
	h.late = rest
}

// dropLate ends the wait of what will never start.
func (h *urlHost) dropLate() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range h.late {
		h.calls.Done()
	}
	h.late = nil
}

func (h *urlHost) run(m *runtime.Invoke) {
	defer h.calls.Done()
	limit := h.timeout
	if m.Limit > 0 {
		limit = min(limit, time.Duration(m.Limit)*time.Millisecond)
	}
	m.MarkStep()
	began := time.Now()
	o, err := h.call(m, limit)
	until := began
	switch {
	case errors.Is(err, errTurnedAway):
		until = time.Now().Add(min(turnedAwayPause, h.timeout))
	case err != nil && !neverSent(err):
		// Nothing proves that the attempt has stopped but the end of its time.
		h.set.log.Warn("a url service gave no answer that can be believed", "service", h.info.Service, "app", h.info.App, "request", m.Attempt.ID, "error", err)
		until = began.Add(h.timeout)
	}
	if err != nil && !h.sleep(time.Until(until)) {
		return
	}
	h.ended(runtime.Answer{Attempt: m.Attempt, Outcome: o})
}

// turnedAwayPause keeps a proxy whose queue is full from being asked at once again.
const turnedAwayPause = time.Second

var errTurnedAway = errors.New("a proxy before the service has turned the request away")

// sleep is false when the host ends meanwhile.
func (h *urlHost) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return h.ctx.Err() == nil
	case <-h.ctx.Done():
		return false
	}
}

// ended keeps the answer until it is taken, and tells it.
func (h *urlHost) ended(answer runtime.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.ran[answer.Attempt]
	e.done, e.answer = true, answer
	if o := answer.Outcome; o != nil {
		e.size = len(o.Body)
		for k, vs := range o.Header {
			for _, v := range vs {
				e.size += len(k) + len(v)
			}
		}
		if h.held+e.size > keepLimit {
			e.answer.Outcome, e.size = nil, 0
		}
		h.held += e.size
	}
	h.tell(func() { h.set.owners.Answered(h.info.Boot, answer) })
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
	// With one of these, proxies send a request again by themselves, beside the first.
	r.Header.Del("Idempotency-Key")
	r.Header.Del("X-Idempotency-Key")
	runtime.Header(r.Header).DropHopByHop()
	res, err := h.set.client.Do(r)
	if err != nil && !h.proxied && unreadable(err) {
		return runtime.Errorf(runtime.CodeBadAnswer, "the answer of %s cannot be read: %s", h.info.URL, err).Outcome(), nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end or is of no use
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(h.set.limit)+1))
	if err != nil {
		return nil, err
	}
	header := runtime.Header(res.Header)
	header.DropHopByHop()
	o := &runtime.Outcome{Status: res.StatusCode, Header: header, Body: body}
	if h.proxied {
		switch o.ThroughProxy(m.Attempt) {
		case runtime.MeansNothing:
			return nil, fmt.Errorf("status %d without this attempt's Kar-Request-Id may be of a proxy", o.Status)
		case runtime.MeansNotStarted:
			return nil, errTurnedAway
		}
	}
	if len(body) > h.set.limit { // what follows is not waited for: it may have no end
		return runtime.Errorf(runtime.CodeResultTooLarge, "the answer of %s is larger than %d bytes", h.info.URL, h.set.limit).Outcome(), nil
	}
	return o, nil
}

// unreadable tells errors about the head of an answer that has come: the method has
// run. Most of them have no type.
func unreadable(err error) bool {
	var protocol textproto.ProtocolError
	if errors.As(err, &protocol) {
		return true
	}
	text := err.Error()
	for _, of := range []string{"malformed HTTP", "bad Content-Length", "unsupported transfer encoding", "too many transfer encodings", "unsupported HTTP", "response headers exceeded"} {
		if strings.Contains(text, of) {
			return true
		}
	}
	return false
}

// neverSent tells errors before the first byte of the request left.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial"
}

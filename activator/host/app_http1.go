package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
)

// http1 is a lean HTTP/1.1 client for one address. Against net/http it saves
// two goroutine switches per request, and it never sends anything twice.
//
// The rule of reuse: a connection that was idle over a second, or over half of
// what the app's Keep-Alive field says, is not used again. So a reset never
// means just that the app had closed an idle connection. An app that was seen to
// write more than it had announced gets a connection for each request: what is
// left over would be the answer of another. See also leftovers.
type http1 struct {
	address string

	mu     sync.Mutex
	idle   []*appConn // the last used last
	open   map[*appConn]struct{}
	most   time.Duration // longest idle time, learned downwards
	excess bool          // the app has written more than it announced
	left   leftovers
	warn   func(string)
	reaper *time.Timer // nil while nothing is idle
	closed bool

	witness Witness       // nil without
	dialing chan struct{} // held while one dials, so that the backlog is looked at in turn
	endless atomic.Bool   // an answer has ended with its connection
}

// appConn is one connection to the app.
type appConn struct {
	net.Conn
	in    *bufio.Reader
	out   []byte
	since time.Time     // idle since
	most  time.Duration // longest idle time as the app said, 0 for not said
	of    *http1
	open  bool // the answer ends with the connection
	lived func() (yes, known bool)
}

const (
	longestIdle = time.Second
	// A body up to this size is sent together with the header.
	inlineBody = 64 << 10
	// keepBuffer is the size above which a write buffer is not kept.
	keepBuffer = 128 << 10
)

func newHTTP1(base *url.URL, witness Witness, warn func(string)) *http1 {
	return &http1{address: base.Host, witness: witness, dialing: make(chan struct{}, 1), warn: warn, open: map[*appConn]struct{}{}, most: longestIdle, left: leftovers{clean: map[string]int{}}}
}

func (c *http1) do(ctx context.Context, r *appRequest) (*runtime.Outcome, error) {
	if e := r.badRequest(); e != nil {
		return e.Outcome(), nil
	}
	c.lookBefore()
	conn, err := c.get(ctx)
	if err != nil {
		return nil, err
	}
	o, reuse, err := conn.exchange(c.address, r)
	if err != nil || !reuse || !c.mayHaveMore(conn, r, o.Status) {
		c.put(conn, reuse && err == nil)
	}
	if err == nil && conn.open && !conn.whole(ctx) {
		return nil, errCut
	}
	return o, err
}

// get takes the most recently used connection that may be used, or dials.
func (c *http1) get(ctx context.Context) (*appConn, error) {
	conn, err := c.reuse()
	if conn != nil || err != nil {
		return conn, err
	}
	if c.witness != nil {
		select {
		case c.dialing <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		conn, err := c.roomFor(ctx)
		if conn != nil || err != nil {
			<-c.dialing
			return conn, err
		}
		defer func() { <-c.dialing }()
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", c.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errNotSent
	}
	conn = &appConn{of: c, Conn: raw, in: bufio.NewReaderSize(raw, 4<<10)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = raw.Close() // nothing was sent
		return nil, context.Canceled
	}
	c.open[conn] = struct{}{}
	return conn, nil
}

// reuse is nil when no idle connection may be used.
func (c *http1) reuse() (*appConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.idle) > 0 {
		n := len(c.idle) - 1
		conn := c.idle[n]
		c.idle[n] = nil
		c.idle = c.idle[:n]
		if c.usable(conn) {
			return conn, nil
		}
		c.drop(conn)
	}
	if c.closed {
		return nil, context.Canceled
	}
	return nil, nil
}

// roomFor waits until at most half of the app's backlog is taken, or a connection has
// become idle. A kernel whose backlog is full resets connections on which requests
// were sent already, and nothing tells that from an app that breaks them.
func (c *http1) roomFor(ctx context.Context) (*appConn, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		conn, err := c.reuse()
		if conn != nil || err != nil {
			return conn, err
		}
		if waiting, most, known := c.witness.Backlog(); !known || 2*waiting <= most {
			return nil, nil
		}
		if !sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// usable looks at an idle connection and learns from it; c.mu is held.
func (c *http1) usable(conn *appConn) bool {
	idle := time.Since(conn.since)
	if c.excess || idle > c.allowed(conn) {
		return false
	}
	switch peek(conn.Conn) {
	case silent:
		return true
	case talking:
		c.exceeds()
	case ended:
		// The app closes sooner than it said: stay well below from now on.
		c.most = min(c.most, max(idle/2, time.Millisecond))
	}
	return false
}

func (c *http1) allowed(conn *appConn) time.Duration {
	if conn.most > 0 {
		return min(c.most, conn.most)
	}
	return c.most
}

func (c *http1) drop(conn *appConn) {
	delete(c.open, conn)
	_ = conn.Close() // idle or broken
}

func (c *http1) put(conn *appConn, reuse bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reuse && conn.in.Buffered() > 0 {
		c.exceeds()
	}
	if !reuse || c.closed || c.excess {
		c.drop(conn)
		return
	}
	conn.since = time.Now()
	c.idle = append(c.idle, conn)
	if c.reaper == nil {
		c.reaper = time.AfterFunc(longestIdle, c.reap)
	}
}

// reap closes what was idle for too long: an app that shuts down in order
// waits for its connections.
func (c *http1) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.idle[:0]
	for _, conn := range c.idle {
		if c.excess || time.Since(conn.since) > c.allowed(conn) {
			c.drop(conn)
			continue
		}
		kept = append(kept, conn)
	}
	clear(c.idle[len(kept):])
	c.idle = kept
	c.reaper = nil
	if len(kept) > 0 && !c.closed {
		c.reaper = time.AfterFunc(longestIdle, c.reap)
	}
}

// close breaks all connections; exchanges in flight end with an error.
func (c *http1) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.reaper != nil {
		c.reaper.Stop()
	}
	for conn := range c.open {
		c.drop(conn)
	}
	c.idle = nil
}

// exchange sends r and reads its answer. Reuse tells that the connection may
// carry another.
func (conn *appConn) exchange(host string, r *appRequest) (o *runtime.Outcome, reuse bool, err error) {
	conn.out = appendRequest(conn.out[:0], host, r)
	late := r.body
	if len(r.body) <= inlineBody {
		conn.out, late = append(conn.out, r.body...), nil
	}
	_, werr := conn.Write(conn.out)
	if cap(conn.out) > keepBuffer {
		conn.out = nil
	}
	var sent chan error
	if late != nil && werr == nil {
		// The app may answer before it has read everything.
		sent = make(chan error, 1)
		go func() { _, err := conn.Write(late); sent <- err }()
	}
	// After a failed write an answer may be there all the same, e.g. 413.
	o, reuse, err = conn.answer(r)
	if err != nil && werr != nil {
		err = werr
	}
	if sent != nil {
		if err != nil || !reuse {
			_ = conn.Close() // ends the writer
		} else {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		}
		if e := <-sent; e != nil {
			reuse = false
		}
		_ = conn.SetWriteDeadline(time.Time{})
	}
	return o, reuse && werr == nil, err
}

func (conn *appConn) answer(r *appRequest) (*runtime.Outcome, bool, error) {
	for {
		switch err := conn.head(); {
		case errors.Is(err, errHead) || errors.Is(err, errLongHead):
			return unreadable(err), false, nil
		case err != nil:
			return nil, false, err
		}
		res, err := http.ReadResponse(conn.in, &http.Request{Method: r.method}) //nolint:bodyclose // outcomeOf reads the body to its end or the connection is dropped
		if err != nil {                                                         // all of it has come, so it is what it says
			return unreadable(err), false, nil
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return unreadable(errors.New("the app switched protocols, which nobody asked for")), false, nil
		}
		if res.StatusCode < 100 {
			return unreadable(fmt.Errorf("%03d is not a status", res.StatusCode)), false, nil
		}
		if res.StatusCode < 200 {
			continue
		}
		if res.ContentLength < 0 || int64(conn.in.Buffered()) < res.ContentLength {
			quickAck(conn.Conn) // the app may wait with the rest
		}
		conn.most = idleOf(res.Header.Get("Keep-Alive"))
		open := res.ContentLength < 0 && len(res.TransferEncoding) == 0 && r.method != http.MethodHead
		reuse := !res.Close && !open
		if res.StatusCode == http.StatusNoContent && (res.Header.Get("Content-Length") > "0" || len(res.TransferEncoding) > 0) {
			reuse = false // it announces what HTTP does not allow it to send
		}
		if open {
			conn.of.lookAt(conn)
		}
		o, err := outcomeOf(res, r)
		return o, reuse && !res.Close, err
	}
}

// unreadable is the outcome of a request whose answer came and makes no sense.
func unreadable(why error) *runtime.Outcome {
	return runtime.Errorf(runtime.CodeBadAnswer, "the component's answer cannot be read: %s", why).Outcome()
}

// idleOf is half of the timeout in a Keep-Alive field such as "timeout=5, max=100".
func idleOf(field string) time.Duration {
	for part := range strings.SplitSeq(field, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(name, "timeout") {
			continue
		}
		n, err := strconv.Atoi(strings.Trim(value, `" `))
		if err != nil || n < 0 || n > 3600 {
			return 0
		}
		return max(time.Duration(n)*time.Second/2, time.Millisecond)
	}
	return 0
}

// describe names an error of an exchange for people.
func describe(err error) string { return fmt.Sprintf("the connection to the app broke: %s", err) }

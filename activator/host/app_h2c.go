package host

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"

	"github.com/karmesh/kar/runtime"
)

// h2c speaks HTTP/2 with prior knowledge. It takes single connections of net/http,
// since the pool of its Transport sends again by rules of its own, also what may
// have run. What certainly was not processed is sent again here: see verdict.
type h2c struct {
	base    *url.URL
	dialer  *http.Transport
	dialing chan struct{} // held while one dials, so that others use what it gets
	warn    func(string)

	mu     sync.Mutex
	open   []*http.ClientConn
	closed bool
}

func newH2C(base *url.URL, warn func(string)) *h2c {
	t := &http.Transport{DisableCompression: true, IdleConnTimeout: longestIdle, Protocols: new(http.Protocols), DialContext: dialToHear}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &h2c{base: base, dialer: t, dialing: make(chan struct{}, 1), warn: warn}
}

func (c *h2c) do(ctx context.Context, r *appRequest) (*runtime.Outcome, error) {
	if e := r.badRequest(); e != nil {
		return e.Outcome(), nil
	}
	u, err := url.ParseRequestURI(r.path)
	if err != nil {
		return runtime.Errorf(runtime.CodeBadRequest, "the path %q cannot be read", r.path).Outcome(), nil
	}
	u.Scheme, u.Host = c.base.Scheme, c.base.Host
	q := &http.Request{Method: r.method, URL: u, Host: c.base.Host, Header: make(http.Header, len(r.header))}
	for k, v := range r.header {
		q.Header[k] = v
	}
	if r.kind != "" && q.Header.Get("Content-Type") == "" {
		q.Header.Set("Content-Type", r.kind)
	}
	runtime.Header(q.Header).DropHopByHop()
	again := resends{warn: c.warn}
	for {
		o, v, err := c.once(ctx, q, r)
		switch {
		case v == mayHaveRun:
			return o, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case v == cannotBeSent:
			return runtime.Errorf(runtime.CodeBadRequest, "the request cannot be sent to the app: %v", err).Outcome(), nil
		case v == turnedAway && again.turned == mostTurned:
			return runtime.Errorf(runtime.CodeBadAnswer, "the app ends each new connection instead of answering: %v", err).Outcome(), nil
		}
		if !again.pause(ctx, v, err) {
			return nil, ctx.Err()
		}
	}
}

// once sends q once. With mayHaveRun the outcome and the error are what there is to
// say about it; any other verdict explains an error.
func (c *h2c) once(ctx context.Context, q *http.Request, r *appRequest) (*runtime.Outcome, verdict, error) {
	conn, err := c.get(ctx)
	if err != nil {
		return nil, mayHaveRun, err // errNotSent, or the end of ctx
	}
	sent := false // written before RoundTrip returns, but when ctx ends
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent = true }})
	q = q.WithContext(ctx)
	if len(r.body) > 0 {
		q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	res, err := conn.RoundTrip(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil, mayHaveRun, ctx.Err()
		}
		return nil, judge(err, sent, conn.Err() != nil), err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or broken anyway
	o, err := outcomeOf(res, r)
	return o, mayHaveRun, err
}

// get returns a connection with a stream reserved.
func (c *h2c) get(ctx context.Context) (*http.ClientConn, error) {
	if conn := c.reserve(); conn != nil {
		return conn, nil
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if conn := c.reserve(); conn != nil {
		return conn, nil
	}
	conn, err := c.dialer.NewClientConn(ctx, c.base.Scheme, c.base.Host)
	if ctx.Err() != nil {
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, errNotSent
	}
	_ = conn.Reserve() // when it has broken already, RoundTrip tells
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close() // nothing was sent
		return nil, errNotSent
	}
	c.open = append(c.open, conn)
	return conn, nil
}

// reserve takes a stream of an open connection, nil when none has one.
func (c *h2c) reserve() *http.ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = slices.DeleteFunc(c.open, func(conn *http.ClientConn) bool { return conn.Err() != nil })
	for _, conn := range c.open {
		if conn.Reserve() == nil {
			return conn
		}
	}
	return nil
}

// close breaks all connections; exchanges in flight end with an error.
func (c *h2c) close() {
	c.mu.Lock()
	open := c.open
	c.open, c.closed = nil, true
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close() // whoever uses it is told
	}
}

// furtherBytes is up to where an answer over its limit is read to its end.
const furtherBytes = 64 << 20

// outcomeOf reads an answer to its end. One over the limit is complete, too:
// the method has run.
func outcomeOf(res *http.Response, r *appRequest) (*runtime.Outcome, error) {
	h := runtime.Header(res.Header)
	h.DropHopByHop()
	if r.method != http.MethodHead {
		delete(h, "Content-Length")
	}
	o := &runtime.Outcome{Status: res.StatusCode, Header: h}
	if res.ContentLength == 0 || r.method == http.MethodHead {
		_, err := io.Copy(io.Discard, res.Body)
		return o, err
	}
	if n := res.ContentLength; n > 0 && n <= int64(r.limit) {
		o.Body = make([]byte, n)
		_, err := io.ReadFull(res.Body, o.Body)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return o, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(r.limit)+1))
	if err != nil {
		return nil, err
	}
	if len(body) <= r.limit {
		o.Body = body
		return o, nil
	}
	// The method runs until it has answered, but an answer need not have an end.
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, furtherBytes))
	if err != nil {
		return nil, err
	}
	res.Close = n == furtherBytes
	return runtime.Errorf(runtime.CodeResultTooLarge, "the app answered with more than %d bytes", r.limit).Outcome(), nil
}

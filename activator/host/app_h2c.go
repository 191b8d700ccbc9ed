package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/karmesh/kar/runtime"
)

// h2c speaks HTTP/2 with prior knowledge through net/http.
type h2c struct {
	base   *url.URL
	client *http.Transport
}

func newH2C(base *url.URL) *h2c {
	t := &http.Transport{DisableCompression: true, IdleConnTimeout: time.Second, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return &h2c{base: base, client: t}
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
	q := (&http.Request{Method: r.method, URL: u, Host: c.base.Host, Header: make(http.Header, len(r.header))}).WithContext(ctx)
	for k, v := range r.header {
		q.Header[k] = v
	}
	if r.kind != "" && q.Header.Get("Content-Type") == "" {
		q.Header.Set("Content-Type", r.kind)
	}
	runtime.Header(q.Header).DropHopByHop()
	if len(r.body) > 0 {
		// Without GetBody nothing is sent a second time.
		q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(r.body)), int64(len(r.body))
	}
	res, err := c.client.RoundTrip(q)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, errNotSent
		}
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or broken anyway
	return outcomeOf(res, r)
}

func (c *h2c) close() { c.client.CloseIdleConnections() }

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

package kafka

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// A conn is one connection to a broker, logged in.
type conn struct {
	broker   *sarama.Broker
	wire     *wire
	throttle *throttle
}

// newBroker is one that counts: sarama has no metrics of those that NewBroker makes.
func newBroker(addr string) *sarama.Broker {
	var known sarama.MetadataResponse
	known.AddBroker(addr, 0)
	return known.Brokers[0]
}

// A wire dials for sarama and keeps what it dialled, so that a request that
// nobody waits for any more can be cut off.
type wire struct {
	ctx    context.Context
	dialer net.Dialer

	mu  sync.Mutex
	raw net.Conn
	cut bool
}

func (w *wire) Dial(network, addr string) (net.Conn, error) {
	c, err := w.dialer.DialContext(w.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		c.Close()
		return nil, net.ErrClosed
	}
	w.raw = c
	return c, nil
}

// abort makes all that runs on the connection fail at once.
func (w *wire) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	if w.raw != nil {
		w.raw.Close()
	}
}

// dial connects and logs in. Its error is a *runtime.Error, or the end of ctx.
func (c *Cluster) dial(ctx context.Context, addr string) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	w := &wire{ctx: limited, dialer: net.Dialer{KeepAlive: c.sarama.Net.KeepAlive}}
	s := *c.sarama
	s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, w
	throttle := &throttle{tell: func(wait time.Duration) { c.quota.asked(addr, wait) }}
	s.MetricRegistry = throttle
	b := newBroker(addr)
	stop := context.AfterFunc(limited, w.abort)
	err := b.Open(&s)
	if err == nil {
		var connected bool
		if connected, err = b.Connected(); err == nil && !connected {
			err = net.ErrClosed
		}
	}
	if stop() && err == nil {
		return &conn{b, w, throttle}, nil
	}
	w.abort()
	b.Close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		err = os.ErrDeadlineExceeded
	}
	return nil, c.diagnose(ctx, addr, err)
}

func (c *conn) close() {
	c.wire.abort()
	c.broker.Close()
}

// do runs one request on a connection of its own for the time, so that no
// other request waits behind it. One that Kafka throttles takes longer, and is
// repeated when the answer has nothing but that. What the broker answers as an error comes back
// as a sarama.KError, everything else as a *runtime.Error or the end of ctx. A kept connection may have died in its sleep:
// then the request, which must bear that, is repeated on a new one.
func (c *Cluster) do(ctx context.Context, addr string, request func(*sarama.Broker) error) error {
	for {
		conn, kept, err := c.borrow(ctx, addr)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, conn.wire.abort)
		err = request(conn.broker)
		running := stop()
		var code sarama.KError
		if running && (err == nil || errors.As(err, &code)) {
			wait, keep := c.throttled(conn)
			if !keep {
				conn.close()
			}
			if wait > 0 {
				c.rest(ctx, wait)
			}
			if keep {
				c.giveBack(addr, conn)
			}
			if code == sarama.ErrThrottlingQuotaExceeded && ctx.Err() == nil {
				continue
			}
			return err
		}
		conn.close()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !kept:
			return c.diagnose(ctx, addr, err)
		}
	}
}

// idle connections kept per broker.
const keptConns = 8

func (c *Cluster) borrow(ctx context.Context, addr string) (_ *conn, kept bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, false, errClosed()
	}
	if idle := c.idle[addr]; len(idle) > 0 {
		conn := idle[len(idle)-1]
		c.idle[addr] = idle[:len(idle)-1]
		c.mu.Unlock()
		return conn, true, nil
	}
	c.mu.Unlock()
	conn, err := c.dial(ctx, addr)
	return conn, false, err
}

func (c *Cluster) giveBack(addr string, conn *conn) {
	c.mu.Lock()
	if !c.closed && len(c.idle[addr]) < keptConns {
		c.idle[addr] = append(c.idle[addr], conn)
		conn = nil
	}
	c.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}

// A lane is a connection that several publishers of events share.
type lane struct {
	c    *Cluster
	addr string

	dials shared
	mu    sync.Mutex
	conn  *conn
}

// lane finds one of a broker's by its number.
func (c *Cluster) lane(addr string, n int) *lane {
	key := laneKey{addr, n}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lanes[key]
	if l == nil {
		l = &lane{c: c, addr: addr, dials: newShared()}
		c.lanes[key] = l
	}
	return l
}

type laneKey struct {
	addr string
	n    int
}

// get connects when needed; an error means that nothing was sent.
func (l *lane) get(ctx context.Context) (*conn, error) {
	if conn := l.current(); conn != nil {
		return conn, nil
	}
	err := l.dials.do(ctx, func() error {
		if l.current() != nil {
			return nil
		}
		if l.c.isClosed() {
			return errClosed()
		}
		conn, err := l.c.dial(ctx, l.addr)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.conn = conn
		l.mu.Unlock()
		if l.c.isClosed() {
			l.close()
			return errClosed()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if conn := l.current(); conn != nil {
		return conn, nil
	}
	return nil, runtime.Errorf(runtime.CodeKafkaUnreachable, "the connection to the broker at %s was lost at once", l.addr)
}

func (l *lane) current() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// drop gives up a connection that has failed.
func (l *lane) drop(conn *conn) {
	l.mu.Lock()
	if l.conn == conn {
		l.conn = nil
	}
	l.mu.Unlock()
	conn.close()
}

func (l *lane) close() {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		conn.close()
	}
}

type produced struct {
	answer *sarama.ProduceResponse
	err    error
}

// send sends a produce request over a connection that others use as well. When
// ctx ends it returns at once, and the request stays on its way.
func (c *Cluster) send(ctx context.Context, conn *conn, r *sarama.ProduceRequest) (*sarama.ProduceResponse, error) {
	result := make(chan produced, 2)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClosed()
	}
	c.work.Add(1)
	c.mu.Unlock()
	go func() { // waits while the connection takes no more
		defer c.work.Done()
		err := conn.broker.AsyncProduce(r, func(answer *sarama.ProduceResponse, err error) { result <- produced{answer, err} })
		if err != nil {
			result <- produced{nil, err}
		}
	}()
	select {
	case p := <-result:
		return p.answer, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// shared lets one do what many want at a time; who has waited meanwhile takes
// its failure for an answer, or a broker that hangs would be waited for by each.
type shared struct {
	turn chan struct{}

	// Of whoever has the turn:
	failed time.Time
	err    error
}

func newShared() shared { return shared{turn: make(chan struct{}, 1)} }

func (s *shared) do(ctx context.Context, what func() error) error {
	began := time.Now()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if s.err != nil && s.failed.After(began) {
		return s.err
	}
	err := what()
	if s.err = err; ctx.Err() != nil {
		s.err = nil // the others' contexts go on
	}
	s.failed = time.Now()
	return err
}

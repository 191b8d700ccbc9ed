package kafka

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// What joins the first batch of a request, at most, in bytes. Together with
	// max.message.bytes it stays far below the 100 MiB that a broker takes.
	gatherLimit = 1 << 20
	// spare is the number of connections to a broker beyond the usual ones: for
	// appends that go alone, and for what is late.
	spare = 16
	// An answer is late when it takes more than this, more than four times the
	// average, and more than a slow network needs for the request.
	lateAfter = 80 * time.Millisecond
	slowest   = 16 << 20 // bytes per second
	// Repeats: so many at once, and one more in each interval.
	repeatBurst    = 64
	repeatInterval = 100 * time.Millisecond
	// Brokers, and what is between, close connections that are idle for longer.
	idleLimit = 3 * time.Minute
)

// A sender carries the appends to one broker. Each request takes along all that
// waits, and only a few requests are in flight at a time, so that many
// partitions cost few requests, and a single one never waits.
//
// The broker answers a request when all its batches are replicated. So that
// one partition, whose replicas hang, does not hold up the others, a
// request that is late no longer keeps the next from being sent, and each batch
// in it is sent once more, alone: readers know a repeat for what it is. A
// partition that was slow goes alone until it is not.
type sender struct {
	c    *Cluster
	addr string
	work sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting []*pending // for the next request, in the order in which they came
	alone   []*pending // these get a request each
	lanes   int        // requests in flight that gathered and are not late
	flight  int        // all requests in flight
	conns   map[*conn]struct{}
	idle    []idleConn
	usual   time.Duration // average of the time until an answer
	repeats float64       // that may be made
	earned  time.Time     // since when repeats has not grown
}

type idleConn struct {
	*conn
	since time.Time
}

// A pending is a batch on its way.
type pending struct {
	partition int32
	values    [][]byte
	size      int
	outcome   chan outcome // holds one

	// Under the sender's mu:
	settled  bool
	repeated bool
	sent     time.Time // zero before it was
	flying   int       // requests in flight that have it
	worst    *outcome  // of requests that did not append it, as far as known
}

// An outcome is what is known of a batch in the end.
type outcome struct {
	sent   bool // else it is certainly not in the log
	slow   bool
	err    error // why there is no answer
	code   sarama.KError
	offset int64
}

func (o *outcome) appended() bool { return o.err == nil && o.code == sarama.ErrNoError }

// certain tells whether the batch is not in the log.
func (o *outcome) certain() bool { return !o.sent || o.err == nil && neverAppended(o.code) }

// A flight is a request on its way.
type flight struct {
	conn   *conn // nil: to be dialled
	items  []*pending
	size   int
	gather bool
	sent   time.Time
	timer  *time.Timer

	late, ended bool
}

// sender finds the one of a broker.
func (c *Cluster) sender(addr string) (*sender, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed()
	}
	s := c.senders[addr]
	if s == nil {
		s = &sender{c: c, addr: addr, conns: map[*conn]struct{}{}, repeats: repeatBurst, earned: time.Now()}
		c.senders[addr] = s
	}
	return s, nil
}

// append returns when the outcome is known, ctx ends, or the time is over.
func (s *sender) append(ctx context.Context, partition int32, values [][]byte, alone bool) outcome {
	// The caller uses its slice again once it has an answer, while a repeat may
	// still be waiting to be written.
	p := &pending{partition: partition, values: slices.Clone(values), size: batchOverhead, outcome: make(chan outcome, 1)}
	for _, v := range values {
		p.size += len(v) + recordOverhead
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return outcome{err: errClosed()}
	}
	if alone {
		s.alone = append(s.alone, p)
	} else {
		s.waiting = append(s.waiting, p)
	}
	f := s.next()
	s.mu.Unlock()
	switch {
	case f == nil:
	case f.conn != nil && ctx.Done() == nil: // as the engine calls it: nobody goes away meanwhile
		s.send(f)
	default: // to connect takes long, and so does a connection that takes no more
		go s.send(f)
	}
	timer := time.NewTimer(s.c.cfg.Timeout)
	defer timer.Stop()
	select {
	case o := <-p.outcome:
		return o
	case <-ctx.Done():
		return s.leave(p, ctx.Err())
	case <-timer.C:
		o := s.leave(p, os.ErrDeadlineExceeded)
		o.sent, o.slow = o.sent || errors.Is(o.err, os.ErrDeadlineExceeded), true
		return o
	}
}

// leave gives up waiting for an outcome.
func (s *sender) leave(p *pending, cause error) outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.settled {
		return <-p.outcome
	}
	p.settled = true
	is := func(q *pending) bool { return q == p }
	s.waiting, s.alone = slices.DeleteFunc(s.waiting, is), slices.DeleteFunc(s.alone, is)
	return outcome{err: cause, sent: !p.sent.IsZero()}
}

// next is a request that can be sent now, or nil; who gets one must send it. mu
// is held.
func (s *sender) next() *flight {
	most := s.c.cfg.Connections
	f := &flight{}
	switch {
	case s.closed:
	case len(s.waiting) > 0 && s.lanes < most && s.flight < most+spare:
		s.gather(f)
		s.lanes++
	case s.flight-s.lanes < spare:
		for len(s.alone) > 0 && f.items == nil {
			if p := s.alone[0]; !p.settled {
				f.take(p)
			}
			s.alone = slices.Delete(s.alone, 0, 1)
		}
	}
	if f.items == nil {
		return nil
	}
	for n := len(s.idle); n > 0 && f.conn == nil; n-- {
		i := s.idle[n-1]
		s.idle = slices.Delete(s.idle, n-1, n)
		if time.Since(i.since) < idleLimit {
			f.conn = i.conn
		} else {
			s.discard(i.conn)
		}
	}
	now := time.Now()
	for _, p := range f.items {
		if p.flying++; p.sent.IsZero() {
			p.sent = now
		}
	}
	s.flight++
	s.work.Add(1)
	return f
}

// gather takes what waits: of each partition one batch.
func (s *sender) gather(f *flight) {
	f.gather = true
	partitions := map[int32]bool{}
	rest := s.waiting[:0]
	for _, p := range s.waiting {
		if len(f.items) > 0 && (f.size+p.size > f.items[0].size+gatherLimit || partitions[p.partition]) {
			rest = append(rest, p)
			continue
		}
		partitions[p.partition] = true
		f.take(p)
	}
	clear(s.waiting[len(rest):])
	s.waiting = rest
}

func (f *flight) take(p *pending) {
	f.items, f.size = append(f.items, p), f.size+p.size
}

func (s *sender) send(f *flight) {
	defer s.work.Done()
	if f.conn == nil {
		conn, err := s.dial()
		if err != nil {
			s.end(f, nil, err, false)
			return
		}
		f.conn = conn
	}
	r := s.c.request()
	for _, p := range f.items {
		r.AddBatch(s.c.topic, p.partition, batchOf(recordsOf(p.values)))
	}
	s.mu.Lock()
	f.sent = time.Now()
	f.timer = time.AfterFunc(s.patience(f.size), func() { s.late(f) })
	s.mu.Unlock()
	err := f.conn.broker.AsyncProduce(r, func(answer *sarama.ProduceResponse, err error) { s.end(f, answer, err, true) })
	if err != nil {
		s.end(f, nil, err, true)
	}
}

func (s *sender) dial() (*conn, error) {
	conn, err := s.c.dial(s.c.life, s.addr)
	if err != nil {
		if s.c.life.Err() != nil {
			err = errClosed()
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.close()
		return nil, errClosed()
	}
	s.conns[conn] = struct{}{}
	return conn, nil
}

// discard closes a connection; not in this goroutine, which may be the
// connection's own. mu is held.
func (s *sender) discard(conn *conn) {
	delete(s.conns, conn)
	if !s.closed { // else close does it
		s.work.Go(conn.close)
	}
}

// patience is how long a request may take before it is late. mu is held.
func (s *sender) patience(size int) time.Duration {
	return min(max(lateAfter, 4*s.usual)+time.Duration(size)*time.Second/slowest, s.c.cfg.Timeout/2)
}

// late makes way for others, and repeats each batch by itself.
func (s *sender) late(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ended || s.closed {
		return
	}
	f.late = true
	if f.gather {
		s.lanes--
	}
	if len(f.items) > 1 {
		for _, p := range f.items {
			if !p.settled && !p.repeated && s.mayRepeat() {
				p.repeated = true
				s.alone = append(s.alone, p)
			}
		}
	}
	s.sendNext()
}

func (s *sender) mayRepeat() bool {
	now := time.Now()
	s.repeats = min(repeatBurst, s.repeats+float64(now.Sub(s.earned))/float64(repeatInterval))
	s.earned = now
	if s.repeats < 1 {
		return false
	}
	s.repeats--
	return true
}

// sendNext sends all that can be sent. mu is held.
func (s *sender) sendNext() {
	for f := s.next(); f != nil; f = s.next() {
		go s.send(f)
	}
}

// end tells each batch of a request what became of it.
func (s *sender) end(f *flight, answer *sarama.ProduceResponse, err error, sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.ended = true
	if f.timer != nil {
		f.timer.Stop()
	}
	patience, sound := s.patience(f.size), err == nil
	if sound { // one that is very late says little about the others
		s.usual += (min(time.Since(f.sent), 2*patience) - s.usual) / 16
	}
	for _, p := range f.items {
		p.flying--
		o := outcome{sent: sent, err: err}
		if err == nil {
			if block := answer.GetBlock(s.c.topic, p.partition); block != nil {
				o.code, o.offset = block.Err, block.Offset
			} else {
				o.err, sound = errors.New("an answer that does not name the partition"), false
			}
		}
		o.slow = sent && time.Since(p.sent) > 2*patience
		s.settle(p, o)
	}
	if sound {
		s.rest(f)
		return
	}
	s.leaves(f)
	if f.conn != nil {
		s.discard(f.conn)
		for _, i := range s.idle { // whatever ended this one may have ended them
			s.discard(i.conn)
		}
		s.idle = nil
	}
	s.sendNext()
}

// rest keeps the place of a request that is answered for as long as Kafka throttles its
// connection, within bounds. mu is held.
func (s *sender) rest(f *flight) {
	wait, keep := s.c.throttled(f.conn)
	if !keep {
		s.discard(f.conn)
	}
	rested := func() {
		s.leaves(f)
		if keep && !s.closed {
			s.idle = append(s.idle, idleConn{f.conn, time.Now()})
		}
		s.sendNext()
	}
	if wait == 0 || s.closed {
		rested()
		return
	}
	time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		rested()
	})
}

// leaves makes way for another request. mu is held.
func (s *sender) leaves(f *flight) {
	s.flight--
	if f.gather && !f.late {
		s.lanes--
	}
}

// settle: to be in the log by one of two requests is to be in it; not to be is
// certain only when no request can have brought it.
func (s *sender) settle(p *pending, o outcome) {
	if p.settled {
		return
	}
	if !o.appended() {
		if p.worst == nil || !o.certain() {
			p.worst = &o
		}
		if p.flying > 0 {
			return
		}
		o = *p.worst
	}
	p.settled = true
	p.outcome <- o
}

// close ends all connections; what is in flight fails.
func (s *sender) close() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	for _, p := range slices.Concat(s.waiting, s.alone) {
		if p.flying == 0 {
			s.settle(p, outcome{err: errClosed()})
		}
	}
	s.waiting, s.alone, s.idle, s.conns = nil, nil, nil, map[*conn]struct{}{}
	s.mu.Unlock()
	for conn := range conns {
		conn.close()
	}
	s.work.Wait()
}

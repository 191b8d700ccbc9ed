package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// tails waits for new events: one request per broker asks after all topics for
// which somebody waits, and stays at the broker until there is something.
type tails struct {
	c *Cluster

	mu      sync.Mutex
	brokers map[string]*tail
	held    map[string]*held // by Kafka's name of the topic
	closed  bool
	running sync.WaitGroup
}

// A tail is the goroutine that asks one broker, while somebody waits.
type tail struct {
	addr    string
	ctx     context.Context
	cancel  context.CancelFunc
	watches map[string]*watch // by Kafka's name of the topic
	added   chan struct{}     // holds one element when a watch was added
}

// A watch is a topic for which somebody waits or has waited lately.
type watch struct {
	end     int64         // as far as the topic is known to go
	changed chan struct{} // closed when it goes further, or something is wrong
	waiting int
	left    time.Time // since when nobody waits
}

// A held is a topic in which a transaction that is open keeps events back.
type held struct {
	at    int64 // Kafka's offset of the first that waits
	since time.Time
	said  bool
}

// heldLong is how long events are kept back before the log says so.
const heldLong = time.Minute

const (
	// A request that is at the broker does not ask for topics that came later.
	tailWait = 50 * time.Millisecond
	// Who comes back within this time finds the topic still watched.
	tailLinger = 2 * time.Second
	// Who waits for so long looks again, whatever happened.
	tailLook = 10 * time.Second
)

// wait returns when the topic may go further than end.
func (t *tails) wait(ctx context.Context, addr, topic string, end int64) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return errClosed()
	}
	b := t.brokers[addr]
	if b == nil {
		b = t.start(addr)
	}
	w := b.watches[topic]
	if w == nil {
		w = &watch{end: end, changed: make(chan struct{})}
		b.watches[topic] = w
		select {
		case b.added <- struct{}{}:
		default:
		}
	}
	if w.end > end {
		t.mu.Unlock()
		return nil
	}
	w.waiting++
	changed := w.changed
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.waiting--; w.waiting == 0 {
			w.left = time.Now()
		}
	}()
	select {
	case <-changed:
		return nil
	case <-b.ctx.Done():
		return nil // the caller looks again and finds out why
	case <-time.After(tailLook):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wake makes those who wait for a topic look again.
func (t *tails) wake(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.brokers {
		b.drop(topic)
	}
}

func (b *tail) drop(topic string) {
	if w := b.watches[topic]; w != nil {
		close(w.changed)
		delete(b.watches, topic)
	}
}

func (t *tails) start(addr string) *tail {
	b := &tail{addr: addr, watches: map[string]*watch{}, added: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if t.brokers == nil {
		t.brokers = map[string]*tail{}
	}
	t.brokers[addr] = b
	t.running.Go(func() { t.run(b) })
	return b
}

func (t *tails) run(b *tail) {
	for {
		r, more := t.request(b)
		switch {
		case !more:
			return
		case r == nil:
			select {
			case <-b.added:
			case <-time.After(tailLinger):
			case <-b.ctx.Done():
			}
			continue
		}
		var answer *sarama.FetchResponse
		err := t.c.do(b.ctx, b.addr, func(broker *sarama.Broker) (err error) {
			answer, err = broker.Fetch(r)
			return err
		})
		t.take(b, answer, err)
	}
}

// request asks after the watched topics; it is nil when there are none, and
// there are no more when the tail has ended.
func (t *tails) request(b *tail) (_ *sarama.FetchRequest, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, w := range b.watches {
		if w.waiting == 0 && time.Since(w.left) > tailLinger {
			delete(b.watches, topic)
		}
	}
	if b.ctx.Err() != nil {
		return nil, false
	}
	if len(b.watches) == 0 {
		return nil, true
	}
	r := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: 1, MaxWaitTime: int32(tailWait.Milliseconds()), SessionEpoch: -1, Isolation: sarama.ReadCommitted}
	for topic, w := range b.watches {
		r.AddBlock(topic, 0, w.end, 1, -1)
	}
	return r, true
}

func (t *tails) take(b *tail, answer *sarama.FetchResponse, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil { // those who wait find out themselves
		for topic := range b.watches {
			b.drop(topic)
		}
		b.cancel()
		if t.brokers[b.addr] == b {
			delete(t.brokers, b.addr)
		}
		return
	}
	for topic, w := range b.watches {
		block := answer.GetBlock(topic, 0)
		if block != nil && block.Err == sarama.ErrNoError {
			t.hold(topic, block, time.Now())
		}
		switch {
		case block == nil: // came later
		case block.Err != sarama.ErrNoError:
			b.drop(topic)
		case block.LastStableOffset > w.end:
			w.end = block.LastStableOffset
			close(w.changed)
			w.changed = make(chan struct{})
		}
	}
}

// hold says when a transaction keeps events back for long, and when they go on.
func (t *tails) hold(topic string, block *sarama.FetchResponseBlock, now time.Time) {
	h, open := t.held[topic], block.HighWaterMarkOffset > block.LastStableOffset
	if h != nil && (!open || h.at != block.LastStableOffset) {
		if h.said {
			t.c.cfg.Logger.Warn("the events that a transaction has kept back go on", "topic", topic, "offset", h.at, "after", now.Sub(h.since).Round(time.Second))
		}
		delete(t.held, topic)
		h = nil
	}
	switch {
	case !open:
	case h == nil:
		if t.held == nil {
			t.held = map[string]*held{}
		}
		t.held[topic] = &held{at: block.LastStableOffset, since: now}
	case !h.said && now.Sub(h.since) >= heldLong:
		h.said = true
		t.c.cfg.Logger.Warn("a transaction that some program has left open keeps back all later events of a topic: kafka-transactions.sh find-hanging, describe-producers",
			"topic", topic, "offset", h.at, "events", block.HighWaterMarkOffset-block.LastStableOffset, "since", h.since.Format(time.RFC3339))
	}
}

// shut ends all tails.
func (t *tails) shut() {
	t.mu.Lock()
	t.closed = true
	for _, b := range t.brokers {
		b.cancel()
	}
	t.mu.Unlock()
	t.running.Wait()
}

func (t *topics) shut() { t.tails.shut() }

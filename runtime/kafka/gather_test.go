package kafka_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// A gate is a proxy before a broker that sees which partitions of the log are
// in a produce request, and can keep the answers to some.
type gate struct {
	listener net.Listener
	broker   string

	mu       sync.Mutex
	open     int                // connections
	requests map[string][][]int // partitions by topic, one element for each request
	slow     string             // topic
	slowPart int
	released chan struct{} // closed when answers are not kept any more
}

func startGate(t testing.TB, broker string) (*gate, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{listener: l, broker: broker, requests: map[string][][]int{}, released: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(c)
		}
	}()
	return g, nil
}

// hold keeps the answers to requests with a partition until release is called.
func (g *gate) hold(topic string, partition int) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slow, g.slowPart, g.released = topic, partition, make(chan struct{})
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.slow == topic {
			g.slow = ""
			close(g.released)
		}
	}
}

// take is what has been requested since the last call.
func (g *gate) take(topic string) [][]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.requests[topic]
	delete(g.requests, topic)
	return r
}

func (g *gate) connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", g.broker)
	if err != nil {
		return
	}
	defer server.Close()
	g.count(1)
	defer g.count(-1)
	var mu sync.Mutex
	held := map[uint32]chan struct{}{} // by number of the request
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer server.Close()
		for {
			frame, err := readFrame(client)
			if err != nil {
				return
			}
			if wait := g.look(frame[4:]); wait != nil {
				mu.Lock()
				held[binary.BigEndian.Uint32(frame[8:])] = wait
				mu.Unlock()
			}
			if _, err := server.Write(frame); err != nil {
				return
			}
		}
	}()
	for {
		frame, err := readFrame(server)
		if err != nil {
			return
		}
		mu.Lock()
		wait := held[binary.BigEndian.Uint32(frame[4:])]
		mu.Unlock()
		if wait != nil {
			select {
			case <-wait:
			case <-ended:
				return
			}
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

func (g *gate) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open += n
}

// readFrame reads one request or answer, with its length.
func readFrame(c net.Conn) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(c, frame); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(frame)
	if n < 4 || n > 64<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame = append(frame, make([]byte, n)...)
	_, err := io.ReadFull(c, frame[4:])
	return frame, err
}

// look notes a produce request of version 7 with one topic; what it returns
// closes when the answer may pass.
func (g *gate) look(r []byte) chan struct{} {
	if binary.BigEndian.Uint16(r) != 0 {
		return nil
	}
	str := func() string {
		n := int(int16(binary.BigEndian.Uint16(r)))
		r = r[2:]
		if n <= 0 {
			return ""
		}
		s := string(r[:n])
		r = r[n:]
		return s
	}
	r = r[8:] // key, version, number
	str()     // client
	str()     // transaction
	r = r[6:] // acks, timeout
	if binary.BigEndian.Uint32(r) != 1 {
		return nil
	}
	r = r[4:]
	topic := str()
	n := int(binary.BigEndian.Uint32(r))
	r = r[4:]
	var partitions []int
	for range n {
		partitions = append(partitions, int(binary.BigEndian.Uint32(r)))
		r = r[8+binary.BigEndian.Uint32(r[4:]):]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests[topic] = append(g.requests[topic], partitions)
	if topic == g.slow && slices.Contains(partitions, g.slowPart) {
		return g.released
	}
	return nil
}

// A timed log keeps the longest time of an append.
type timed struct {
	runtime.Log
	longest atomic.Int64
}

func (l *timed) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	began := time.Now()
	first, next, err = l.Log.Append(ctx, batch)
	l.longest.Store(max(l.longest.Load(), int64(time.Since(began))))
	return first, next, err
}

// appendAgain appends until the outcome is known: on a machine with other work a
// broker may be late for the controller, and leads nothing for a moment.
func appendAgain(l runtime.Log, record []byte) (first uint64, err error) {
	var unknown *runtime.UnknownError
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if first, _, err = l.Append(context.Background(), [][]byte{record}); !errors.As(err, &unknown) {
			break
		}
	}
	return first, err
}

// TestGather: what many partitions append at a time goes out together, and each
// still has its own outcome and does not wait for others.
func TestGather(t *testing.T) {
	var g *gate
	k := parts.NeedKafka(t, parts.KafkaOptions{Properties: map[string]string{"broker.session.timeout.ms": "6000"}, Advertise: func(_ int, addr string) (front string, err error) {
		if g, err = startGate(t, addr); err == nil {
			front = g.listener.Addr().String()
		}
		return front, err
	}})
	const partitions = 64
	t.Run("few requests", func(t *testing.T) {
		cfg := config(t, k)
		cfg.Partitions, cfg.Timeout = partitions, 10*time.Second
		c := open(t, cfg)
		const each = 30
		var group sync.WaitGroup
		for p := range partitions {
			l := openLog(t, c, uint16(p))
			group.Go(func() {
				for i := range each {
					if _, err := appendAgain(l, fmt.Append(nil, i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		batches, requests := 0, g.take(logTopic(cfg))
		for _, r := range requests {
			batches += len(r)
		}
		t.Logf("%d appends: %d requests with %d batches", partitions*each, len(requests), batches)
		if batches < partitions*each || len(requests) > partitions*each/4 {
			t.Errorf("%d appends went out in %d requests with %d batches", partitions*each, len(requests), batches)
		}
	})
	t.Run("one refused", func(t *testing.T) {
		cfg := config(t, k)
		cfg.Partitions, cfg.Timeout = 8, 10*time.Second
		c := open(t, cfg)
		alter(t, admin(t, k), logTopic(cfg), "max.message.bytes", "10000")
		const refused = 5
		var group sync.WaitGroup
		for p := range cfg.Partitions {
			l := openLog(t, c, uint16(p))
			group.Go(func() {
				for i := range uint64(50) {
					if p == refused {
						_, err := appendAgain(l, bytes.Repeat([]byte("x"), 20_000+int(i)))
						wantCode(t, err, runtime.CodeTooLarge)
					} else if first, err := appendAgain(l, fmt.Append(nil, i)); err != nil || first < i {
						t.Errorf("partition %d: %d, %v", p, first, err)
						return
					}
				}
			})
		}
		group.Wait()
		if _, end, err := openLog(t, c, refused).Bounds(t.Context()); err != nil || end != 0 {
			t.Errorf("%d records of refused batches, %v", end, err)
		}
		if !slices.ContainsFunc(g.take(logTopic(cfg)), func(r []int) bool { return len(r) > 1 && slices.Contains(r, refused) }) {
			t.Error("no request had the refused batch beside others")
		}
	})
	t.Run("an append that nobody waits for", func(t *testing.T) {
		cfg := config(t, k)
		c := open(t, cfg)
		l := openLog(t, c, 2)
		appendAt(t, l, 0, "a")
		release := g.hold(logTopic(cfg), 2)
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, _, err := l.Append(ctx, [][]byte{[]byte("b")})
		var unknown *runtime.UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("append = %v, want an unknown outcome", err)
		}
		release()
		if first, _, err := l.Append(t.Context(), [][]byte{[]byte("b")}); err != nil || first != 2 {
			t.Errorf("the same batch again = %d, %v; the first went on", first, err)
		}
	})
	t.Run("slow partition", func(t *testing.T) {
		const slow = 7
		cfg := config(t, k)
		cfg.Partitions, cfg.Timeout = partitions, 2*time.Second
		c := open(t, cfg)
		writers, logs := make([]*writer, partitions), make([]*timed, partitions)
		stop := make(chan struct{})
		var group sync.WaitGroup
		for p := range writers {
			logs[p] = &timed{Log: openLog(t, c, uint16(p))}
			writers[p] = &writer{log: logs[p]}
			group.Go(func() { writers[p].run(stop) })
		}
		// longest is that of all the others in a second.
		longest := func() (most time.Duration) {
			for _, l := range logs {
				l.longest.Store(0)
			}
			select {
			case <-time.After(time.Second):
			case <-t.Context().Done():
			}
			for p, l := range logs {
				if p != slow {
					most = max(most, time.Duration(l.longest.Load()))
				}
			}
			return most
		}
		eventually(t, "all write", func() bool {
			return !slices.ContainsFunc(writers, func(w *writer) bool { return w.confirmed.Load() < 30 })
		})
		// A machine with other work makes everybody wait at times, so the best of
		// some rounds counts. That a partition is slow is new in each.
		const limit = 100 * time.Millisecond
		for round := 1; ; round++ {
			calm := longest()
			release := g.hold(logTopic(cfg), slow)
			first, second := longest(), longest() // the outcome becomes unknown and the append is repeated
			before := writers[slow].confirmed.Load()
			release()
			eventually(t, "the slow one goes on", func() bool { return writers[slow].confirmed.Load() > before+30 })
			t.Logf("longest append of the others: %v; with a slow partition %v, %v", calm, first, second)
			if max(first, second) <= calm+limit {
				break
			}
			if round == 4 {
				t.Errorf("the others waited for the slow partition")
				break
			}
		}
		close(stop)
		group.Wait()
		for p, w := range writers {
			w.check(t, c, uint16(p))
		}
	})
	t.Run("broker", func(t *testing.T) {
		topic := ""
		underLoad(t, k, partitions, func(progress func(string)) {
			progress("before the stop")
			if err := k.Pause(0); err != nil {
				t.Fatal(err)
			}
			g.mu.Lock()
			for name := range g.requests {
				topic = name
			}
			clear(g.requests)
			g.mu.Unlock()
			most := 0
			for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				most = max(most, g.connections())
			}
			requests := len(g.take(topic))
			t.Logf("while the broker stood still: %d requests, at most %d connections", requests, most)
			// Each request has a connection for itself, and lasts for the second of the time limit.
			if requests > 100 || most > 50 {
				t.Errorf("%d requests and %d connections to a broker that stands still", requests, most)
			}
			if err := k.Resume(0); err != nil {
				t.Fatal(err)
			}
			progress("after the stop")
			if err := k.Kill(0); err != nil {
				t.Fatal(err)
			}
			if err := k.Start(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			progress("after the kill")
		})
	})
}

package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
	"github.com/karmesh/kar/runtime/runtimetest"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
	"github.com/rs/zerolog"
)

// A writer appends batches of numbered records one after the other, as an
// engine does: while the outcome of one is unknown it sends the same again.
type writer struct {
	log runtime.Log

	confirmed atomic.Uint64 // records
	unknown   atomic.Int64  // answers
	places    []place
	err       error
}

// A place is where a batch landed, by what Append said.
type place struct{ number, offset, count uint64 }

func (w *writer) run(stop <-chan struct{}) {
	for number, round := uint64(0), uint64(0); ; round++ {
		select {
		case <-stop:
			return
		default:
		}
		count := 1 + round%7
		var batch [][]byte
		for i := range count {
			batch = append(batch, fmt.Appendf(binary.BigEndian.AppendUint64(nil, number+i), "%0200d", number+i))
		}
		var first uint64
		for begun := time.Now(); ; {
			var err error
			if first, _, err = w.log.Append(context.Background(), batch); err == nil {
				break
			}
			var unknown *runtime.UnknownError
			var coded *runtime.Error
			switch {
			case errors.As(err, &unknown):
				w.unknown.Add(1)
			case !errors.As(err, &coded) || coded.Code != runtime.CodeKafkaUnreachable:
				w.err = err
				return
			}
			if time.Since(begun) > time.Minute {
				w.err = fmt.Errorf("no answer within a minute: %w", err)
				return
			}
			time.Sleep(20 * time.Millisecond) // the engine's pause between two attempts
		}
		w.places = append(w.places, place{number, first, count})
		number += count
		w.confirmed.Store(number)
	}
}

// check reads the log as the engine would: a record that does not go on where
// the valid ones end is void.
func (w *writer) check(t *testing.T, c *kafka.Cluster, partition uint16) {
	t.Helper()
	if w.err != nil {
		t.Errorf("partition %d: %v", partition, w.err)
		return
	}
	var log []uint64
	valid, end := uint64(0), uint64(0)
	err := openLog(t, c, partition).Read(t.Context(), 0, func(offset uint64, record []byte) error {
		if offset != end {
			return fmt.Errorf("record %d where %d was due", offset, end)
		}
		end++
		number := binary.BigEndian.Uint64(record)
		log = append(log, number)
		if number == valid {
			valid++
		} else if number > valid {
			return fmt.Errorf("offset %d: number %d before %d", offset, number, valid)
		}
		return nil
	})
	if err != nil || valid < w.confirmed.Load() {
		t.Errorf("partition %d: %d valid of %d confirmed, %v", partition, valid, w.confirmed.Load(), err)
	}
	for _, p := range w.places {
		for i := range p.count {
			if at := p.offset + i; at >= uint64(len(log)) || log[at] != p.number+i {
				t.Fatalf("partition %d: record %d is not at %d, where Append said", partition, p.number+i, at)
			}
		}
	}
	t.Logf("partition %d: %d records confirmed, %d in the log, %d outcomes unknown", partition, w.confirmed.Load(), len(log), w.unknown.Load())
}

// underLoad runs writers on all partitions while something is done to Kafka.
func underLoad(t *testing.T, k *parts.Kafka, partitions int, do func(progress func(what string)), with ...func(*kafka.Config)) {
	t.Helper()
	cfg := config(t, k)
	cfg.Partitions, cfg.Timeout = partitions, time.Second
	for _, f := range with {
		f(&cfg)
	}
	c := open(t, cfg)
	writers := make([]*writer, partitions)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for p := range writers {
		writers[p] = &writer{log: openLog(t, c, uint16(p))}
		group.Go(func() { writers[p].run(stop) })
	}
	do(func(what string) {
		t.Helper()
		var before []uint64
		for _, w := range writers {
			before = append(before, w.confirmed.Load())
		}
		for p, w := range writers {
			eventually(t, fmt.Sprintf("%s: partition %d goes on", what, p), func() bool { return w.confirmed.Load() >= before[p]+30 })
		}
	})
	close(stop)
	group.Wait()
	for p, w := range writers {
		w.check(t, c, uint16(p))
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestFaults: whatever happens between client and log, nothing confirmed is
// lost, nothing changes places, and Append says where its records are.
func TestFaults(t *testing.T) {
	var proxy *toxiproxy.Proxy
	k := parts.NeedKafka(t, parts.KafkaOptions{Advertise: func(_ int, addr string) (string, error) {
		proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "kafka", "127.0.0.1:0", addr)
		err := proxy.Start()
		return proxy.Listen, err
	}})
	t.Cleanup(func() { proxy.Stop() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("round trips", func(t *testing.T) {
		c := open(t, config(t, k))
		l := openLog(t, c, 0)
		var next uint64
		add := func() (err error) {
			_, next, err = l.Append(t.Context(), [][]byte{[]byte("a"), []byte("b")})
			return err
		}
		read := func(from uint64) func() error {
			return func() error {
				return l.Read(t.Context(), from, func(uint64, []byte) error { return nil })
			}
		}
		must(add())
		must(l.Trim(t.Context(), 1))
		for _, stream := range []string{"upstream", "downstream"} {
			_, err := proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"name":"slow %s","type":"latency","stream":%q,"attributes":{"latency":150}}`, stream, stream)))
			must(err)
			defer func() { must(proxy.Toxics.RemoveToxic(t.Context(), "slow "+stream)) }()
		}
		took := func(do func() error) time.Duration {
			begin := time.Now()
			must(do())
			return time.Since(begin)
		}
		one := took(add)
		for _, x := range []struct {
			what   string
			do     func() error
			rounds time.Duration
		}{
			{"all", read(1), 1},
			{"a tail", read(next - 1), 1},
			{"nothing new", read(next), 1},
		} {
			if d := took(x.do); d > x.rounds*one+one/2 {
				t.Errorf("%s took %v, an append %v; want %d round trips", x.what, d, one, x.rounds)
			}
		}
	})
	t.Run("killed", func(t *testing.T) {
		underLoad(t, k, 4, func(progress func(string)) {
			for range 2 {
				progress("before the kill")
				must(k.Kill(0))
				must(k.Start(t.Context(), 0))
			}
			progress("after the restart")
		})
	})
	t.Run("stopped", func(t *testing.T) {
		underLoad(t, k, 4, func(progress func(string)) {
			progress("before the stop")
			must(k.Pause(0))
			select {
			case <-time.After(2500 * time.Millisecond): // two and a half times the time limit of a request
			case <-t.Context().Done():
			}
			must(k.Resume(0))
			progress("after the stop")
		})
	})
	t.Run("link", func(t *testing.T) {
		underLoad(t, k, 8, func(progress func(string)) {
			for range 3 {
				progress("before the cut")
				proxy.Stop()
				must(proxy.Start())
			}
			toxic := func(json string) {
				t.Helper()
				if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(json)); err != nil {
					t.Fatal(err)
				}
			}
			// Connections end in the middle of a request, and in the middle of an answer.
			for _, json := range []string{
				`{"name":"half","type":"limit_data","stream":"upstream","attributes":{"bytes":20000}}`,
				`{"name":"half","type":"limit_data","stream":"downstream","attributes":{"bytes":3000}}`,
				`{"name":"half","type":"slicer","stream":"upstream","attributes":{"average_size":50,"size_variation":40,"delay":5}}`,
				`{"name":"half","type":"latency","stream":"downstream","attributes":{"latency":20,"jitter":15}}`,
			} {
				toxic(json)
				progress(json)
				must(proxy.Toxics.RemoveToxic(t.Context(), "half"))
			}
			// Answers do not come back: what was sent lands, and nobody knows.
			toxic(`{"name":"deaf","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)
			select {
			case <-time.After(1200 * time.Millisecond):
			case <-t.Context().Done():
			}
			must(proxy.Toxics.RemoveToxic(t.Context(), "deaf"))
			progress("after the deafness")
		})
	})
	t.Run("topics", func(t *testing.T) {
		ts := open(t, config(t, k)).Topics()
		if _, err := ts.Create(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan []runtime.Event, 1)
		go func() {
			for {
				if found, err := ts.Fetch(ctx, "t", 0, 1); err == nil || ctx.Err() != nil {
					got <- found.Events
					return
				}
			}
		}()
		must(k.Kill(0))
		must(k.Start(t.Context(), 0))
		eventually(t, "publish", func() bool {
			_, err := ts.Publish(ctx, "t", runtime.Event{Body: []byte("e")})
			return err == nil
		})
		if events := <-got; len(events) != 1 || string(events[0].Body) != "e" {
			t.Errorf("the fetch that waited through the restart: %+v", events)
		}
	})
	t.Run("append ends with its context", func(t *testing.T) {
		c := open(t, config(t, k))
		l := openLog(t, c, 0)
		if _, _, err := l.Append(t.Context(), [][]byte{[]byte("a")}); err != nil {
			t.Fatal(err)
		}
		must(k.Pause(0))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, _, err := l.Append(ctx, [][]byte{[]byte("b")})
		var unknown *runtime.UnknownError
		if !errors.As(err, &unknown) || time.Since(began) > time.Second {
			t.Errorf("append = %v after %v, want an unknown outcome after 50 ms", err, time.Since(began))
		}
		ended, cancelled := context.WithCancel(t.Context())
		cancelled()
		if _, _, err := l.Append(ended, [][]byte{[]byte("b")}); !errors.As(err, &unknown) {
			t.Errorf("the same batch again under an ended context = %v; it may be in the log, so the outcome is unknown", err)
		}
		must(k.Resume(0))
		first, _, err := l.Append(t.Context(), [][]byte{[]byte("b")})
		if err != nil || first < 1 || first > 2 {
			t.Errorf("the same batch again = %d, %v", first, err)
		}
	})
	t.Run("close while stopped", func(t *testing.T) {
		c := open(t, config(t, k))
		l := openLog(t, c, 0)
		if _, _, err := l.Append(t.Context(), [][]byte{[]byte("a")}); err != nil {
			t.Fatal(err)
		}
		must(k.Pause(0))
		failed := make(chan error, 1)
		go func() {
			_, _, err := l.Append(t.Context(), [][]byte{[]byte("b")})
			failed <- err
		}()
		time.Sleep(20 * time.Millisecond) // so that it is on its way; the test holds without it
		c.Close()
		select {
		case err := <-failed:
			if err == nil {
				t.Error("an append to a stopped broker succeeded")
			}
		case <-time.After(10 * time.Second):
			t.Error("an append goes on after Close")
		}
		must(k.Resume(0))
	})
}

// TestTwoWriters: each sees the gap that the other makes, also in the middle of
// a batch that went out in pieces.
func TestTwoWriters(t *testing.T) {
	cfg := config(t, broker.Need(t))
	cfg.BodyLimit = 64 << 10
	whole, split := runtimetest.TwoWriters(t, openLog(t, open(t, cfg), 0), openLog(t, open(t, cfg), 0), 20<<10)
	t.Logf("%d batches in one row, %d not", whole, split)
	if split == 0 {
		t.Error("nothing landed between the pieces of a batch")
	}
}

func TestTooLarge(t *testing.T) {
	cfg := config(t, broker.Need(t))
	cfg.BodyLimit = 100 << 10
	c := open(t, cfg)
	l := openLog(t, c, 0)
	fits := make([]byte, c.MaxRecord())
	if _, _, err := l.Append(t.Context(), [][]byte{{1}, fits, fits, {2}}); err != nil {
		t.Fatalf("the largest record: %v", err)
	}
	_, _, err := l.Append(t.Context(), [][]byte{{3}, append(fits, 0)})
	wantCode(t, err, runtime.CodeTooLarge)
	if _, end, err := l.Bounds(t.Context()); err != nil || end != 4 {
		t.Errorf("%d records, %v; of a batch with one too large nothing is appended", end, err)
	}
}

// What the topic takes is learnt from the first refusal when somebody lowers it, and soon
// after it is set right.
func TestLimitIsLowered(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	cfg.BodyLimit = 100 << 10
	var said lines
	cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
	c := open(t, cfg)
	l := openLog(t, c, 0)
	before := c.MaxRecord()
	a := admin(t, k)
	alter(t, a, logTopic(cfg), "max.message.bytes", "50000")
	batch := [][]byte{make([]byte, 20_000), make([]byte, 20_000), make([]byte, 20_000), make([]byte, 20_000)}
	if first, next, err := l.Append(t.Context(), batch); err != nil || first != 0 || next != 4 {
		t.Fatalf("a batch of small records: %d to %d, %v", first, next, err)
	}
	if n := c.MaxRecord(); n >= 50_000 {
		t.Errorf("the largest record is taken for %d bytes", n)
	}
	_, _, err := l.Append(t.Context(), [][]byte{make([]byte, 60_000)})
	wantCode(t, err, runtime.CodeTooLarge, "the topic")
	if log := said.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "kafka-configs.sh") {
		t.Errorf("the log says: %s", log)
	}
	alter(t, a, logTopic(cfg), "max.message.bytes", fmt.Sprint(before+1000))
	eventually(t, "what the topic takes is known", func() bool { return c.MaxRecord() > before })
	if _, _, err := l.Append(t.Context(), [][]byte{make([]byte, 60_000)}); err != nil {
		t.Errorf("a large record when it is set right: %v", err)
	}
}

func wantCode(t *testing.T, err error, code runtime.Code, words ...string) {
	t.Helper()
	var unknown *runtime.UnknownError
	var coded *runtime.Error
	if !errors.As(err, &coded) || coded.Code != code || errors.As(err, &unknown) {
		t.Errorf("error = %v, want the code %s", err, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(coded.Detail, w) {
			t.Errorf("the error does not name %q: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), parts.KafkaPassword) {
		t.Errorf("the error shows the password: %v", err)
	}
}

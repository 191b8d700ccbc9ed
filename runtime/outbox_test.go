package runtime

import (
	"fmt"
	"testing"
	"time"
)

// What another partition has not confirmed is kept anew at a cost for each message
// that does not grow with their number, and a fold puts it in order whatever stands
// where.
func TestKeepOfManyMessages(t *testing.T) {
	const few, many, most = 7_500, 150_000, 120 // 20 when it grows with the number, 400 with its square
	base := keepMessages(t, few)
	for range 4 { // other things that the machine does only add to it
		base = min(base, keepMessages(t, few))
	}
	if took := keepMessages(t, many); took > most*base {
		t.Errorf("to keep and to fold %d messages took %v, %d of them %v", few, base, many, took)
	}
}

func keepMessages(t *testing.T, n int) (took time.Duration) {
	b := newBench(t, Config{Partitions: 4})
	b.step(&RaiseLevel{2})
	send := func(n int) {
		for range n {
			b.c.emit(&received{}, OutMessage{To: 1, Payload: []byte(fmt.Sprint(b.c.outboxTo(1).next))})
		}
		b.take()
	}
	send(n / 2)
	b.step(&Mark{})
	cut := len(b.log) - 1
	before := b.c.Seq()
	send(n / 2) // in front of what is kept, in a trimmed log
	begin := startWatch()
	for b.c.OldestLive() < before {
		b.step(&Keep{Before: before, Limit: 512})
	}
	b.log = b.log[cut:]
	b.restart()
	took = begin.spent()
	if sent := b.c.outboxTo(1).pending; len(sent) != n {
		t.Fatalf("%d of %d messages are left", len(sent), n)
	}
	for next := uint64(1); next <= uint64(n); {
		for _, e := range b.step(&Acked{Partition: 1, N: next - 1}) {
			if e.Kind != ToPartition {
				continue
			}
			if e.N != next || string(e.Payload) != fmt.Sprint(next) {
				t.Fatalf("message %d comes with %q in place of %d", e.N, e.Payload, next)
			}
			next++
		}
	}
	return took
}

// What is on its way to one partition is bounded in bytes, too, and a partition that
// does not answer is sent one message again, not all of them.
func TestOutboxIsBoundedInBytes(t *testing.T) {
	const n = 20
	b := newBench(t, Config{Partitions: 2})
	b.step(&RaiseLevel{2})
	sent := func(effects []Effect) (ns []uint64) {
		for _, e := range effects {
			if e.Kind == ToPartition {
				ns = append(ns, e.N)
			}
		}
		return ns
	}
	for range n {
		b.c.emit(&received{}, OutMessage{To: 1, Payload: make([]byte, 1<<20)})
	}
	_, effects := b.c.Take()
	if ns := sent(effects); len(ns) != 4 {
		t.Errorf("%v were sent at once", ns)
	}
	for range 5 {
		b.now.Mono += 1100
		if ns := sent(b.step(&Tick{})); len(ns) != 1 || ns[0] != 1 {
			t.Fatalf("%v were sent again to a partition that does not answer", ns)
		}
	}
	if ns := sent(b.step(&Acked{Partition: 1, N: 1})); fmt.Sprint(ns) != "[2 3 4 5]" {
		t.Errorf("%v were sent when one was confirmed that had been lost", ns)
	}
	for i := uint64(2); i <= n; i++ { // without loss each goes once
		ns := sent(b.step(&Acked{Partition: 1, N: i}))
		if want := i + 4; want <= n && (len(ns) != 1 || ns[0] != want) || want > n && len(ns) > 0 {
			t.Errorf("%v were sent when %d was confirmed", ns, i)
		}
	}
	if o := b.c.outboxTo(1); o.size != 0 || len(o.pending) != 0 {
		t.Errorf("%d bytes of %d messages are left", o.size, len(o.pending))
	}
}

// A message that is larger than what may be on its way goes at once when it is the only
// one, and the next one waits for it.
func TestLargestMessageGoesAlone(t *testing.T) {
	b := newBench(t, Config{Partitions: 2})
	b.step(&RaiseLevel{2})
	for _, size := range []int{outBytes + 1, 1} {
		b.c.emit(&received{}, OutMessage{To: 1, Payload: make([]byte, size)})
	}
	var sent []uint64
	for _, e := range b.take() {
		if e.Kind == ToPartition {
			sent = append(sent, e.N)
		}
	}
	if len(sent) != 1 || sent[0] != 1 {
		t.Errorf("%v were sent", sent)
	}
}

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
	const n = 150_000
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
	begin := time.Now()
	for b.c.OldestLive() < before {
		b.step(&Keep{Before: before, Limit: 512})
	}
	b.log = b.log[cut:]
	b.restart()
	if took := time.Since(begin); took > 10*time.Second { // 0.5 s when each is looked at once, a minute when all are
		t.Errorf("to keep and to fold %d messages took %v", n, took)
	}
	if sent := b.c.outboxTo(1).pending; len(sent) != n {
		t.Fatalf("%d of %d messages are left", len(sent), n)
	}
	next := uint64(1)
	for next <= n {
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
}

package kafka

import (
	"context"
	"testing"
	"time"
)

// TestSenderKeepsWhatItSends: a batch whose caller has given up may still go
// out, and must be what was given, whatever the caller does with its memory.
func TestSenderKeepsWhatItSends(t *testing.T) {
	s := &sender{c: &Cluster{cfg: Config{Timeout: time.Minute}}} // no connection is allowed, so it waits
	ctx, cancel := context.WithCancel(t.Context())
	values := [][]byte{[]byte("first"), nil, []byte("third")}
	done := make(chan outcome)
	go func() { done <- s.append(ctx, 3, values, false) }()
	var p *pending
	for end := time.Now().Add(10 * time.Second); p == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the batch does not wait")
		}
		s.mu.Lock()
		if len(s.waiting) > 0 {
			p = s.waiting[0]
		}
		s.mu.Unlock()
	}
	cancel()
	<-done
	copy(values[0], "XXXXX")
	values[2] = nil
	if len(p.values) != 3 || string(p.values[0]) != "first" || len(p.values[1]) != 0 || string(p.values[2]) != "third" {
		t.Errorf("what goes out is %q", p.values)
	}
}

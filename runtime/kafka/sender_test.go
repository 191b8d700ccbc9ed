package kafka

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// TestSenderKeepsWhatItSends: a batch whose caller has given up may still go
// out, and must be what was given, whatever the caller does with its slice.
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
	values[0], values[2] = values[2], nil
	if len(p.values) != 3 || string(p.values[0]) != "first" || len(p.values[1]) != 0 || string(p.values[2]) != "third" {
		t.Errorf("what goes out is %q", p.values)
	}
}

// TestSettle: one success is enough, and a refusal is certain only when no
// other request can have brought the batch.
func TestSettle(t *testing.T) {
	landed := outcome{sent: true, offset: 7}
	refused := outcome{sent: true, code: sarama.ErrNotEnoughReplicas}
	silent := outcome{sent: true, err: io.EOF}
	unsent := outcome{err: io.EOF}
	for name, c := range map[string]struct {
		outcomes []outcome
		appended bool
		certain  bool
	}{
		"landed":                  {[]outcome{landed}, true, false},
		"landed, then refused":    {[]outcome{landed, refused}, true, false},
		"refused, then landed":    {[]outcome{refused, landed}, true, false},
		"silent, then landed":     {[]outcome{silent, landed}, true, false},
		"unsent, then landed":     {[]outcome{unsent, landed}, true, false},
		"refused":                 {[]outcome{refused}, false, true},
		"refused twice":           {[]outcome{refused, refused}, false, true},
		"refused, then unsent":    {[]outcome{refused, unsent}, false, true},
		"refused, then silent":    {[]outcome{refused, silent}, false, false},
		"silent, then refused":    {[]outcome{silent, refused}, false, false},
		"unsent, then silent":     {[]outcome{unsent, silent}, false, false},
		"no leader, then refused": {[]outcome{{sent: true, code: sarama.ErrNotLeaderForPartition}, refused}, false, false},
	} {
		s := &sender{}
		p := &pending{flying: len(c.outcomes), outcome: make(chan outcome, 1)}
		for _, o := range c.outcomes {
			p.flying--
			s.settle(p, o)
		}
		if o := <-p.outcome; o.appended() != c.appended || !c.appended && o.certain() != c.certain {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

package kafka_test

import (
	"context"
	"errors"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/kafka"
)

// TestCloseLeavesNothing: no goroutine outlives Close, whatever ran.
func TestCloseLeavesNothing(t *testing.T) {
	cfg := config(t, broker.Need(t))
	c := open(t, cfg)
	for p := range cfg.Partitions {
		l := openLog(t, c, uint16(p))
		appendAt(t, l, 0, "a")
		if err := l.Read(t.Context(), 0, func(uint64, []byte) error { return context.Canceled }); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	ts := c.Topics()
	if _, err := ts.Create(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := ts.Publish(t.Context(), "t", runtime.Event{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := ts.Fetch(t.Context(), "t", 1, 1)
		ended <- err
	}()
	eventually(t, "the fetch waits", func() bool { return strings.Contains(stacks(), "tails).wait") })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-ended, runtime.CodeShutdown)
	_, _, err := openLog(t, c, 0).Append(t.Context(), [][]byte{{1}})
	wantCode(t, err, runtime.CodeShutdown)
	eventually(t, "all goroutines have ended", func() bool {
		s := stacks()
		return !strings.Contains(s, "sarama.(*Broker)") && !strings.Contains(s, "kafka.(*")
	})
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:goruntime.Stack(b, true)])
}

// TestOpenTogether: gateways that start at a time make one topic, and all can
// use each partition of it when Open returns.
func TestOpenTogether(t *testing.T) {
	cfg := config(t, broker.Need(t))
	cfg.Partitions = 32
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			c, err := kafka.Open(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for p := range cfg.Partitions {
				if p%4 == g {
					l, err := c.Log(uint16(p))
					if err != nil {
						t.Error(err)
						return
					}
					if first, _, err := l.Append(t.Context(), [][]byte{{1}}); err != nil || first != 0 {
						t.Errorf("append = %d, %v", first, err)
					}
				}
			}
		})
	}
	group.Wait()
}

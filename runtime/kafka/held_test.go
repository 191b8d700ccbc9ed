package kafka

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// A transaction that stays open is said once, with where it begins, and its end too; one
// that ends in time, and others after it, are not.
func TestOpenTransactionIsSaid(t *testing.T) {
	var log strings.Builder
	c := &Cluster{cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
	ts := &tails{c: c}
	now := time.Now()
	see := func(after time.Duration, stable, high int64) string {
		log.Reset()
		now = now.Add(after)
		ts.hold("orders", &sarama.FetchResponseBlock{LastStableOffset: stable, HighWaterMarkOffset: high}, now)
		return log.String()
	}
	for i := range int64(5) { // busy, but each ends in time
		if said := see(heldLong*2/3, i, i+9); said != "" {
			t.Errorf("of one that goes on: %s", said)
		}
	}
	see(0, 7, 8)
	if said := see(heldLong-1, 7, 9); said != "" {
		t.Errorf("too soon: %s", said)
	}
	if said := see(1, 7, 9); !strings.Contains(said, "left open") || !strings.Contains(said, "topic=orders offset=7 events=2") {
		t.Errorf("said: %q", said)
	}
	if said := see(heldLong, 7, 12); said != "" {
		t.Errorf("again: %s", said)
	}
	if said := see(0, 12, 12); !strings.Contains(said, "go on") || !strings.Contains(said, "offset=7") {
		t.Errorf("when it has ended: %q", said)
	}
	if said := see(heldLong, 12, 12) + see(heldLong, 12, 13); said != "" {
		t.Errorf("nothing is kept back: %s", said)
	}
}

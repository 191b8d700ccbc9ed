package kafka_test

import (
	"context"
	"testing"
	"time"
)

// A reader stands still, as a gateway that is paused, while the owner appends
// more and cuts the log behind where it ended when the reading began.
func TestReadOvertakenByTrim(t *testing.T) {
	cfg := config(t, broker.Need(t))
	one, other := openLog(t, open(t, cfg), 0), openLog(t, open(t, cfg), 0)
	big := make([]byte, 1<<20)
	fill := func(n int) {
		for range n {
			if _, _, err := one.Append(t.Context(), [][]byte{big}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const before, behind = 30, 35 // more than a reader has in memory
	fill(before)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n := 0
	err := other.Read(ctx, 0, func(offset uint64, r []byte) error {
		if n++; n == 1 {
			fill(behind - before)
			if err := one.Trim(t.Context(), behind-2); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil || n == before {
		t.Errorf("read %d of %d records: %v", n, before, err)
	}
}

package kafka_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestMemoryDeleted: gateways that run keep the numbers of topics for all; when none
// runs, a topic counts from a higher number, so that no reader passes over its events.
func TestMemoryDeleted(t *testing.T) {
	k := broker.Need(t)
	cfg := config(t, k)
	a := admin(t, k)
	var said lines
	running := cfg
	running.Logger = slog.New(slog.NewTextHandler(&said, nil))
	c := open(t, running)
	ts := c.Topics()
	if _, _, err := openLog(t, c, 0).Append(t.Context(), [][]byte{{1}}); err != nil { // a mesh that is used
		t.Fatal(err)
	}
	publish := func(ts runtime.Topics, n int) {
		t.Helper()
		for i := range n {
			if _, err := ts.Publish(t.Context(), "x", runtime.Event{Body: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	bounds := func(ts runtime.Topics, start, end int64) {
		t.Helper()
		if s, e, err := ts.Bounds(t.Context(), "x"); err != nil || s != start || e != end {
			t.Fatalf("bounds %d to %d, %v; want %d to %d", s, e, err, start, end)
		}
	}
	create := func() {
		t.Helper()
		if _, err := ts.Create(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
	}
	create()
	publish(ts, 3)
	if _, err := ts.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	create()
	publish(ts, 3)
	bounds(ts, 3, 6)
	lose := func() {
		t.Helper()
		if err := a.DeleteTopic(memoryTopic(cfg)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the memory is gone", func() bool {
			list, err := a.ListTopics()
			_, there := list[memoryTopic(cfg)]
			return err == nil && !there
		})
	}
	lose()
	bounds(ts, 3, 6) // and so it is written down
	bounds(open(t, cfg).Topics(), 3, 6)
	if !strings.Contains(said.String(), "deleted the memory of topics") {
		t.Errorf("the log says: %s", said.String())
	}
	if _, err := ts.Create(t.Context(), "z"); err != nil {
		t.Errorf("another topic: %v", err)
	}
	// One that knows nothing comes first.
	lose()
	fresh := open(t, cfg).Topics()
	s, e, err := fresh.Bounds(t.Context(), "x")
	if err != nil || s <= 6 || e != s+3 {
		t.Fatalf("bounds of who knows nothing: %d to %d, %v", s, e, err)
	}
	bounds(ts, s, e) // all count the same
	publish(ts, 1)
	bounds(fresh, s, e+1)
	if _, err := fresh.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	create()
	bounds(ts, e+1, e+1)
	bounds(fresh, e+1, e+1)
}

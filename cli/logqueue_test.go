package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// A reader takes lines when it may, and can be gone.
type reader struct {
	mu    sync.Mutex // held while it takes nothing
	gone  error
	taken bytes.Buffer
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil {
		return 0, r.gone
	}
	return r.taken.Write(b)
}

// TestLogQueueDropsAndSaysSo: nobody waits for a reader that stands still; what was
// dropped is counted where it is missing.
func TestLogQueueDropsAndSaysSo(t *testing.T) {
	r := &reader{}
	q := newLogQueue(r)
	long := strings.Repeat("x", logQueueLimit/4-100)
	r.mu.Lock()
	for n := range 7 {
		fmt.Fprintf(q, "line %d %s\n", n, long)
	}
	begun := time.Now()
	q.flush(10 * time.Millisecond)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("flush took %s", took)
	}
	r.mu.Unlock()
	q.flush(time.Minute)
	fmt.Fprintln(q, "again")
	q.flush(time.Minute)
	var got []string
	for line := range strings.Lines(r.taken.String()) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " xx")
		if _, text, ok := strings.Cut(line, " [WARNING] "); ok {
			line = text
		}
		got = append(got, line)
	}
	want := []string{"line 0", "line 1", "line 2", "line 3", "lines of this log were dropped, since they were not read in time or could not be written lines=3", "again"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
	if q.bytes != 0 || q.idle != nil {
		t.Errorf("left over: %+v", q)
	}
}

// TestLogQueueCountsWhatCannotBeWritten: a reader that comes back hears what it missed.
func TestLogQueueCountsWhatCannotBeWritten(t *testing.T) {
	r := &reader{gone: errors.New("broken pipe")}
	q := newLogQueue(r)
	for n := range 5 {
		fmt.Fprintln(q, "line", n)
		q.flush(time.Minute)
	}
	r.mu.Lock()
	r.gone = nil
	r.mu.Unlock()
	fmt.Fprintln(q, "back")
	q.flush(time.Minute)
	if got := r.taken.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "lines=5\n") || !strings.HasSuffix(got, "\nback\n") {
		t.Errorf("got %q", got)
	}
}

// TestLogQueueKeepsOrder: what many say at once comes out whole, and what one says
// in its order.
func TestLogQueueKeepsOrder(t *testing.T) {
	r := &reader{}
	q := newLogQueue(r)
	var all sync.WaitGroup
	for who := range 8 {
		all.Go(func() {
			for n := range 200 {
				fmt.Fprintf(q, "%d %d\n", who, n)
			}
		})
	}
	all.Wait()
	q.flush(time.Minute)
	var next [8]int
	for line := range strings.Lines(r.taken.String()) {
		var who, n int
		if _, err := fmt.Sscan(line, &who, &n); err != nil || n != next[who] {
			t.Fatalf("%q in place of %v, %v", line, next, err)
		}
		next[who]++
	}
	for who, n := range next {
		if n != 200 {
			t.Errorf("%d lines of %d", n, who)
		}
	}
}

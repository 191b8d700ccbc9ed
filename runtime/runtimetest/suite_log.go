package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// LogOpener opens the log under test. The first call finds an empty log; every
// later one finds what the call before left, after its log was closed as a
// process that ends would do it. The opener cleans up through t.
type LogOpener func(t *testing.T) runtime.Log

// LogSuite checks the laws of runtime.Log. Each law gets a log of its own:
// fresh is called once for each.
func LogSuite(t *testing.T, fresh func(t *testing.T) LogOpener) {
	for _, law := range []struct {
		name  string
		check func(*testing.T, LogOpener)
	}{
		{"empty", logEmpty},
		{"append-read", logAppendRead},
		{"any-bytes", logAnyBytes},
		{"read-from", logReadFrom},
		{"read-ends-where-it-was-called", logReadEnd},
		{"read-stops-on-error", logReadError},
		{"reopen", logReopen},
		{"trim", logTrim},
		{"trim-survives-reopen", logTrimReopen},
		{"size", logSize},
		{"cancelled", logCancelled},
		{"large-batch", logLarge},
	} {
		t.Run(law.name, func(t *testing.T) { law.check(t, fresh(t)) })
	}
}

func logEmpty(t *testing.T, open LogOpener) {
	l := open(t)
	wantBounds(t, l, 0, 0)
	wantRecords(t, l, 0, nil)
	first, next, err := l.Append(t.Context(), nil)
	if err != nil || first != 0 || next != 0 {
		t.Fatalf("append of nothing = %d to %d, %v", first, next, err)
	}
	wantBounds(t, l, 0, 0)
}

func logAppendRead(t *testing.T, open LogOpener) {
	l := open(t)
	appendAt(t, l, 0, "a", "b", "c")
	appendAt(t, l, 3, "d")
	wantBounds(t, l, 0, 4)
	wantRecords(t, l, 0, []string{"a", "b", "c", "d"})
}

func logAnyBytes(t *testing.T, open LogOpener) {
	l := open(t)
	records := []string{"", "\x00", "\xff\xfe", string(make([]byte, 3000)), "", "ü💥"}
	appendAt(t, l, 0, records...)
	wantRecords(t, l, 0, records)
}

func logReadFrom(t *testing.T, open LogOpener) {
	l := open(t)
	appendAt(t, l, 0, "a", "b", "c")
	appendAt(t, l, 3, "d", "e")
	for from := range uint64(7) {
		want := []string{"a", "b", "c", "d", "e"}[min(from, 5):]
		wantRecords(t, l, from, want)
	}
}

func logReadEnd(t *testing.T, open LogOpener) {
	l := open(t)
	appendAt(t, l, 0, "a", "b")
	n := 0
	err := l.Read(t.Context(), 0, func(uint64, []byte) error {
		if n++; n == 1 {
			appendAt(t, l, 2, "later")
		}
		return nil
	})
	if err != nil || n != 2 {
		t.Fatalf("a read that began with 2 records visited %d, %v", n, err)
	}
}

func logReadError(t *testing.T, open LogOpener) {
	l := open(t)
	appendAt(t, l, 0, "a", "b", "c")
	stop, n := errors.New("stop"), 0
	err := l.Read(t.Context(), 0, func(uint64, []byte) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Fatalf("read = %v after %d visits, want the visitor's error after 1", err, n)
	}
}

func logReopen(t *testing.T, open LogOpener) {
	var want []string
	for round := range 5 {
		l := open(t)
		wantRecords(t, l, 0, want)
		for i := range round * 3 {
			record := fmt.Sprintf("%d.%d", round, i)
			appendAt(t, l, uint64(len(want)), record)
			want = append(want, record)
		}
		closeLog(t, l)
	}
	wantRecords(t, open(t), 0, want)
}

func logTrim(t *testing.T, open LogOpener) {
	l := open(t)
	fill(t, l, 100, 1000)
	for _, before := range []uint64{0, 1, 50, 50, 20, 99} {
		if err := l.Trim(t.Context(), before); err != nil {
			t.Fatalf("trim before %d: %v", before, err)
		}
		start, end, err := l.Bounds(t.Context())
		if err != nil || end != 100 || start > 99 {
			t.Fatalf("bounds after trim before %d = %d to %d, %v", before, start, end, err)
		}
		next := max(start, before)
		err = l.Read(t.Context(), before, func(offset uint64, _ []byte) error {
			if offset != next {
				return fmt.Errorf("offset %d where %d was due", offset, next)
			}
			next++
			return nil
		})
		if err != nil || next != 100 {
			t.Fatalf("read after trim before %d: reached %d, %v", before, next, err)
		}
	}
	// Reading from before the start begins at the start.
	start, _, _ := l.Bounds(t.Context())
	seen := uint64(0)
	if err := l.Read(t.Context(), 0, func(offset uint64, _ []byte) error {
		if seen == 0 && offset != start {
			return fmt.Errorf("first offset %d, want %d", offset, start)
		}
		seen++
		return nil
	}); err != nil || seen != 100-start {
		t.Fatalf("read from 0 saw %d records from %d on, %v", seen, start, err)
	}
	appendAt(t, l, 100, "x")
}

func logTrimReopen(t *testing.T, open LogOpener) {
	l := open(t)
	fill(t, l, 100, 1000)
	if err := l.Trim(t.Context(), 90); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	l = open(t)
	start, end, err := l.Bounds(t.Context())
	if err != nil || start > 90 || end != 100 {
		t.Fatalf("bounds after trim and reopen = %d to %d, %v", start, end, err)
	}
	appendAt(t, l, 100, "next")
	if err := l.Trim(t.Context(), 101); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	appendAt(t, open(t), 101, "counts on though all was trimmed")
}

func logSize(t *testing.T, open LogOpener) {
	l := open(t)
	fill(t, l, 200, 1000)
	full := l.Size()
	if full < 200*1000 {
		t.Fatalf("size %d with 200,000 bytes inside", full)
	}
	if err := l.Trim(t.Context(), 199); err != nil {
		t.Fatal(err)
	}
	if l.Size() > full {
		t.Fatalf("size grew from %d to %d with a trim", full, l.Size())
	}
}

func logCancelled(t *testing.T, open LogOpener) {
	l := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := l.Append(ctx, [][]byte{[]byte("a")})
	unknown := (*runtime.UnknownError)(nil)
	if err == nil || errors.As(err, &unknown) {
		t.Fatalf("append under an ended context = %v, want a certain error", err)
	}
	appendAt(t, l, 0, "b")
	wantRecords(t, l, 0, []string{"b"})
}

func logLarge(t *testing.T, open LogOpener) {
	l := open(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	if first, next, err := l.Append(t.Context(), [][]byte{[]byte("a"), big, big, []byte("z")}); err != nil || first != 0 || next != 4 {
		t.Fatalf("append = offsets %d to %d, %v", first, next, err)
	}
	closeLog(t, l)
	wantRecords(t, open(t), 0, []string{"a", string(big), string(big), "z"})
}

// TwoWriters checks what Append says of batches between whose records those of
// another writer may land, and returns how many landed in one row, and how many
// had something between. One and other are the same log, which is empty; pieces
// are records that do not go out together.
func TwoWriters(t *testing.T, one, other runtime.Log, piece int) (whole, split int) {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, _, err := other.Append(context.Background(), [][]byte{[]byte("foreign")}); err != nil {
				ended <- err
				return
			}
			time.Sleep(time.Duration(i%5) * time.Millisecond) // so that some batches stay whole
		}
	}()
	type landed struct{ first, next uint64 }
	var all []landed
	record := func(batch, i int) string { return fmt.Sprintf("%d.%d ", batch, i) }
	size := func(batch int) int { return 1 + batch%40 }
	for batch := range 60 {
		var records [][]byte
		for i := range size(batch) {
			records = append(records, append([]byte(record(batch, i)), make([]byte, piece)...))
		}
		first, next, err := one.Append(t.Context(), records)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, landed{first, next})
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := one.Read(t.Context(), 0, func(offset uint64, r []byte) error {
		name, _, _ := strings.Cut(string(r), "\x00")
		names = append(names, name)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for batch, l := range all {
		if l.next > uint64(len(names)) || l.first >= l.next {
			t.Fatalf("batch %d landed from %d to %d of %d", batch, l.first, l.next, len(names))
		}
		n, found := size(batch), 0
		for _, name := range names[l.first:l.next] {
			if found < n && name == record(batch, found) {
				found++
			}
		}
		if names[l.first] != record(batch, 0) || names[l.next-1] != record(batch, n-1) || found != n {
			t.Fatalf("batch %d of %d was said to be from %d to %d, where %d of it are: %q", batch, n, l.first, l.next, found, names[l.first:l.next])
		}
		if l.next-l.first == uint64(n) {
			whole++
		} else {
			split++
		}
	}
	return whole, split
}

func fill(t *testing.T, l runtime.Log, n, size int) {
	t.Helper()
	for i := range n {
		appendAt(t, l, uint64(i), string(bytes.Repeat([]byte{byte(i)}, size)))
	}
}

func appendAt(t *testing.T, l runtime.Log, at uint64, records ...string) {
	t.Helper()
	batch := make([][]byte, len(records))
	for i, r := range records {
		batch[i] = []byte(r)
	}
	first, next, err := l.Append(t.Context(), batch)
	if err != nil || first != at || next != at+uint64(len(batch)) {
		t.Fatalf("append of %d = offsets %d to %d, %v; want %d", len(batch), first, next, err, at)
	}
}

func wantBounds(t *testing.T, l runtime.Log, start, end uint64) {
	t.Helper()
	s, e, err := l.Bounds(t.Context())
	if err != nil || s != start || e != end {
		t.Fatalf("bounds = %d to %d, %v; want %d to %d", s, e, err, start, end)
	}
}

func wantRecords(t *testing.T, l runtime.Log, from uint64, want []string) {
	t.Helper()
	i := 0
	err := l.Read(t.Context(), from, func(offset uint64, record []byte) error {
		if i >= len(want) || offset != from+uint64(i) || string(record) != want[i] {
			return fmt.Errorf("unexpected record of %d bytes at %d", len(record), offset)
		}
		i++
		return nil
	})
	if err != nil || i != len(want) {
		t.Fatalf("read from %d: %d of %d records, %v", from, i, len(want), err)
	}
}

func closeLog(t *testing.T, l runtime.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

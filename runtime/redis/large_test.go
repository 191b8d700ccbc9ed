package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

func prefix(k string) runtime.Mutation { return runtime.Mutation{Key: []byte(k), Prefix: true} }

// TestLargeApply: what does not fit into one script arrives all the same, in order.
func TestLargeApply(t *testing.T) {
	r := checked(t, at(t, parts.NeedRedis(t, parts.RedisOptions{})))
	apply(t, r, 0, 1, many(3*stepWrites+1, "a/")...)
	if n := count(t, r, "a/"); n != 3*stepWrites+1 {
		t.Fatalf("%d entries", n)
	}
	apply(t, r, 1, 2, append(many(stepRemove, "a/"), many(2*stepRemove, "b/")...)...)
	// Removes 5,000 and 10,000; what stands before and behind a prefix keeps its place.
	apply(t, r, 2, 3, set("a/x", "1"), prefix("a/"), set("a/y", "2"), prefix("b/"), set("b", "3"))
	if a, b := count(t, r, "a/"), count(t, r, "b"); a != 1 || b != 1 {
		t.Fatalf("%d and %d entries are left, want 1 and 1", a, b)
	}
	get(t, r, "a/y", "2")
	big := strings.Repeat("x", 3<<20)
	apply(t, r, 3, 4, set("big1", big), set("big2", big), set("big3", big))
	get(t, r, "big2", big)
	if n := count(t, r, "big"); n != 3 {
		t.Fatalf("%d large entries", n)
	}
	applied(t, r, 4)
}

// TestLargeApplyInterrupted: half of a large Apply moves nothing, and whoever
// starts again from the same position wins over whoever began.
func TestLargeApplyInterrupted(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	cut := &cutDialer{}
	c := at(t, server)
	c.Dial, c.Timeout = cut.dial, time.Second
	old, next := open(t, c), checked(t, at(t, server))
	apply(t, next, 0, 1, set("k", "before"))

	// The old writer gets to its second step, then its connection is gone.
	steps := 0
	cut.write.Store(func(b []byte) bool {
		if strings.Contains(string(b[:min(len(b), 100)]), "eval") {
			steps++
		}
		return steps > 2
	})
	writes := append([]runtime.Mutation{set("k", "old")}, many(5*stepWrites, "old/")...)
	if got, err := old.Apply(t.Context(), 0, 1, 9, writes); err == nil {
		t.Fatalf("a cut Apply = %d", got)
	}
	cut.write.Store(func([]byte) bool { return false })
	applied(t, next, 1)
	if n := count(t, next, "old/"); n == 0 {
		t.Fatal("nothing was written: the test proves nothing")
	}
	// In between somebody else begins a large one from the same position.
	a, err := next.applyOnce(t.Context(), next.parts[0], 1, 7, "mine:0", "mine:1", []runtime.Mutation{set("k", "next"), prefix("old/")})
	if err != nil || a.wrote != wrote {
		t.Fatalf("take over: %+v, %v", a, err)
	}
	stale, err := old.applyOnce(t.Context(), old.parts[0], 1, 9, "theirs:2", "", []runtime.Mutation{set("k", "stale")})
	if err != nil || stale.wrote == wrote || stale.applied != 1 {
		t.Fatalf("a stale step was taken: %+v, %v", stale, err)
	}
	a, err = next.applyOnce(t.Context(), next.parts[0], 1, 7, "mine:1", "", nil)
	if err != nil || a.applied != 7 {
		t.Fatalf("finish: %+v, %v", a, err)
	}
	// An answer that was lost: the last step again says the same.
	if a, err = next.applyOnce(t.Context(), next.parts[0], 1, 7, "mine:1", "", nil); err != nil || a.applied != 7 {
		t.Fatalf("finish again: %+v, %v", a, err)
	}
	get(t, next, "k", "next")
	if n := count(t, next, "old/"); n != 0 {
		t.Fatalf("%d entries of the old writer are left", n)
	}
}

// TestPurgeDoesNotBlock: removing many entries lets others in between.
func TestPurgeDoesNotBlock(t *testing.T) {
	const entries = 200_000
	server := parts.NeedRedis(t, parts.RedisOptions{})
	r, other := checked(t, at(t, server)), checked(t, at(t, server))
	for i := range entries / 10_000 {
		apply(t, r, uint64(i), uint64(i+1), many(10_000, fmt.Sprintf("app/%04d/", i))...)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var longest atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := other.Applied(ctx, 1); err == nil {
				longest.Store(max(longest.Load(), int64(time.Since(began))))
			}
		}
	}()
	began := time.Now()
	apply(t, r, entries/10_000, 100, prefix("app/"))
	took := time.Since(began)
	cancel()
	<-done
	t.Logf("removing %d entries took %v; the longest wait of others was %v", entries, took, time.Duration(longest.Load()))
	if n := count(t, r, ""); n != 0 {
		t.Fatalf("%d entries are left", n)
	}
	if wait := time.Duration(longest.Load()); wait > 100*time.Millisecond && wait > took/4 {
		t.Errorf("others waited up to %v of %v", wait, took)
	}
}

// TestExpiredEntriesGo: they take no memory for ever.
func TestExpiredEntriesGo(t *testing.T) {
	t.Parallel()
	r := checked(t, at(t, parts.NeedRedis(t, parts.RedisOptions{})))
	soonOver := time.Now().Unix() + 1
	var writes []runtime.Mutation
	for _, m := range many(500, "brief/") {
		m.Expires = soonOver
		writes = append(writes, m)
	}
	kept := set("kept", "1")
	kept.Expires = soonOver
	apply(t, r, 0, 1, append(writes, kept)...)
	kept.Expires = 0
	apply(t, r, 1, 2, kept)
	at := uint64(2)
	soon(t, 10*time.Second, func() error {
		apply(t, r, at, at+1)
		at++
		entries, err := r.client.ZCard(t.Context(), r.parts[0].keys[0]).Result()
		due, err2 := r.client.ZCard(t.Context(), r.parts[0].keys[2]).Result()
		if err != nil || err2 != nil || entries != 2 || due != 0 {
			return fmt.Errorf("%d members and %d due, %w", entries, due, errors.Join(err, err2))
		}
		return nil
	})
	get(t, r, "kept", "1")
}

// A cutDialer ends connections at what write says.
type cutDialer struct{ write atomic.Value }

func (d *cutDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{conn, d}, nil
}

type cutConn struct {
	net.Conn
	d *cutDialer
}

func (c *cutConn) Write(b []byte) (int, error) {
	if cut, _ := c.d.write.Load().(func([]byte) bool); cut != nil && cut(b) {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

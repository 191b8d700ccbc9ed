package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// longestGap calls an actor again and again for a while and returns the longest
// time without a completion.
func longestGap(t *testing.T, n *node, length time.Duration) time.Duration {
	t.Helper()
	var longest time.Duration
	last := time.Now()
	for until := last.Add(length); last.Before(until); {
		r := call("calm", "A", "1", "m")
		if _, err := n.Call(within(t), r); err != nil {
			t.Fatal(err)
		}
		n.Release(r.Target.App, r.ID)
		now := time.Now()
		longest = max(longest, now.Sub(last))
		last = now
	}
	return longest
}

// P11: while components of another app come, go, vanish and stay away with
// thousands of requests waiting, one app's calls go on. The measure is the same
// run without all that; three tries, for other programs use this machine too.
func TestOthersDoNotNotice(t *testing.T) {
	n := open(t, t.TempDir(), 1)
	attach(t, n.Mesh, runtime.HostInfo{Boot: "calm", App: "calm", Actors: []string{"A"}}, func(*runtime.Invoke) *runtime.Outcome { return ok(`{"value":1}`) })
	for i := range 5000 { // work for components that never come
		r := call("wild", fmt.Sprintf("Absent%d", i%50), fmt.Sprint(i), "m")
		r.Kind = runtime.Tell
		if _, err := n.Accept(within(t), r); err != nil {
			t.Fatal(err)
		}
	}
	const length = 700 * time.Millisecond
	var quiet, wild time.Duration
	for range 3 {
		quiet = longestGap(t, n, length)
		stop := make(chan struct{})
		var others sync.WaitGroup
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				boot := fmt.Sprintf("wild-%d-%d", i, time.Now().UnixNano())
				h := &fakeHost{owners: n.Mesh}
				h.info = runtime.HostInfo{Boot: boot, App: "wild", Actors: []string{"W", fmt.Sprintf("Absent%d", i%10)}}
				if err := n.HostUp(h.info, runtime.JoinAnswer{}, h); err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
				_, _ = n.Call(ctx, call("wild", "W", fmt.Sprint(i), "m")) // its client leaves
				cancel()
				if i%2 == 0 {
					n.HostDown(boot, "exited")
				} else {
					n.LinkDown(boot, h)
				}
			}
		})
		wild = longestGap(t, n, length)
		close(stop)
		others.Wait()
		if wild <= quiet+100*time.Millisecond {
			return
		}
	}
	t.Fatalf("longest time without a completion: %v, without the others %v", wild, quiet)
}

package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/karmesh/kar/runtime"
)

// One partition whose log does not answer takes no group of the others from the list that
// the pump of events follows.
func TestGroupsBesideAPartitionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newMeshRig(t, 8)
		a := rig.open("a")
		for i := range 80 {
			x := runtime.Actor{App: "app", Type: "A", ID: fmt.Sprint(i)}
			if _, err := a.Subscribe(within(t), runtime.Caller{App: "app"}, runtime.Subscription{Actor: x, ID: "s", Path: "/x", Topic: "t"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		all, _ := a.Groups()
		want := map[string]bool{}
		for _, g := range all {
			if !strings.HasPrefix(g.Key, "0/") {
				want[g.Key] = true
			}
		}
		log := rig.logs[0]
		log.mu.Lock()
		over := make(chan struct{})
		log.fault = func(string, bool) error { <-over; return &runtime.UnknownError{Cause: errors.New("no answer")} }
		log.mu.Unlock()
		go func() {
			r := call("app", "A", rig.actorIn(0), "m")
			r.Kind = runtime.Tell
			_, _ = a.Accept(within(t), r)
		}()
		time.Sleep(500 * time.Millisecond)
		for range 6 {
			gs, _ := a.Groups()
			n := 0
			for _, g := range gs {
				if want[g.Key] {
					n++
				}
			}
			if n < len(want) {
				t.Errorf("%d are missing", len(want)-n)
			}
		}
		log.mu.Lock()
		close(over)
		log.fault = nil
		log.mu.Unlock()
		time.Sleep(time.Second)
	})
}

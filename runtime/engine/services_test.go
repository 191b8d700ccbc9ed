package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/engine"
)

// A word of a change of services may be lost with the stream between two gateways, so who
// gets one again lists them anew.
func TestServicesAreListedAnewWithAStream(t *testing.T) {
	r := newMeshRig(t, 4)
	a, b := r.open("a"), r.open("b")
	for quiet := false; !quiet; { // partitions move at first, which is told too
		_, changed, _ := b.Services(within(t), "")
		select {
		case <-changed:
		case <-time.After(3 * r.lease):
			quiet = true
		}
	}
	r.net.sever("a", "b", true)
	told := map[*engine.Mesh]<-chan struct{}{}
	for _, m := range []*engine.Mesh{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), r.lease/4)
		_, told[m], _ = m.Services(ctx, "")
		cancel()
	}
	r.net.sever("a", "b", false)
	for _, m := range []*engine.Mesh{a, b} {
		select {
		case <-told[m]:
		case <-within(t).Done():
			t.Fatal("nobody looks for what was changed meanwhile")
		}
	}
}

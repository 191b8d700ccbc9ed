package host

import (
	"testing"
	"time"

	"github.com/karmesh/kar/activator/tunnel"
	"github.com/karmesh/kar/runtime"
)

// What must happen once however often it is sent has an id: calls, changes and
// events; what only reads has none.
func TestWhatHasAnID(t *testing.T) {
	h := &Host{cfg: Config{Info: runtime.HostInfo{App: "app"}}, partitions: 4, clock: gatewayClock{own: time.Now}}
	actor := "/kar/v1/actor/A/1%2F2"
	for _, x := range []struct {
		method, path string
		what         int
	}{
		{"GET", "/kar/v1/service/s/call/m", aCall}, {"POST", actor + "/call/m", aCall}, {"DELETE", actor, aRemoval},
		{"PUT", actor + "/state/k", aChange}, {"PUT", actor + "/state/k/sub", aChange}, {"POST", actor + "/state", aChange},
		{"POST", actor + "/state/k", aChange}, {"DELETE", actor + "/state/k", aChange}, {"DELETE", actor + "/state", aChange},
		{"PUT", actor + "/reminders/r", aChange}, {"DELETE", actor + "/reminders", aChange},
		{"PUT", actor + "/events/s", aChange}, {"DELETE", actor + "/events/s", aChange},
		{"POST", "/kar/v1/event/t/publish", anEvent},
		{"GET", actor + "/state/k", nothing}, {"HEAD", actor + "/state/k", nothing}, {"GET", actor + "/reminders", nothing},
		{"PUT", "/kar/v1/event/t", nothing}, {"GET", "/kar/v1/system/health", nothing}, {"POST", "/kar/v1/await", nothing},
	} {
		c := &apiCall{req: &tunnel.Request{Method: x.method, Path: x.path}}
		if _, what := h.target(x.method, x.path); what != x.what {
			t.Errorf("%s %s: %d", x.method, x.path, what)
		}
		h.identify(c, x.path)
		if (c.target == runtime.Target{}) != (x.what == nothing) {
			t.Errorf("%s %s: its target is %v", x.method, x.path, c.target)
		}
		if id := h.newID(c); x.what == aChange && id.Partition() != runtime.ActorPartition(runtime.Actor{App: "app", Type: "A", ID: "1/2"}, 4) {
			t.Errorf("%s %s: the id was made for partition %d", x.method, x.path, id.Partition())
		}
	}
}

// A gateway that does not say its time is an older one; an answer that took long narrows
// nothing that was known better.
func TestWhatIsKnownOfTheGatewaysClock(t *testing.T) {
	own := time.UnixMilli(1 << 40)
	c := gatewayClock{own: func() time.Time { return own }}
	if off := c.heard(0, 0, tunnel.BootTime()); off != 0 || c.now() != own.UnixMilli() {
		t.Fatal("of an older gateway:", off, c.now())
	}
	boot := tunnel.BootTime().Truncate(time.Millisecond)
	wall := own.Add(time.Hour).UnixMilli()
	if off := c.heard(wall, boot, boot+10*time.Millisecond); (off + time.Hour).Abs() > time.Minute {
		t.Fatal("an hour behind:", off)
	}
	known := c.ahead
	if at := known + boot.Milliseconds(); at > wall || at < wall-10 {
		t.Fatal("at the first word:", at-wall)
	}
	later := boot + time.Minute
	for _, took := range []time.Duration{30 * time.Second, time.Second} { // its clock was read halfway
		wall := known + (later - took/2).Milliseconds()
		if c.heard(wall, later-took, later); c.ahead != known {
			t.Fatalf("after an answer that took %s: %d ms", took, c.ahead-known)
		}
	}
	for _, step := range []time.Duration{time.Hour, -time.Hour} { // the gateway's clock is set
		wall := known + (later + step).Milliseconds()
		if c.heard(wall, later-time.Second, later); c.ahead < known+step.Milliseconds() || c.ahead > known+step.Milliseconds()+1000 {
			t.Fatalf("after a step of %s: %d ms", step, c.ahead-known)
		}
		c.ahead = known
	}
}

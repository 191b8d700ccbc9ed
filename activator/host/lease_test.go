package host_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
)

func shortLease(_ *rig, a *activator.Config, _ *host.Config) { a.Lease = 300 * time.Millisecond }

func TestLeaseFreezesThawsAndKills(t *testing.T) {
	r := start(t, newScriptApp(ok), shortLease)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", r.owners.answers)
	none(t, "act on the app while the lease is kept", r.guard.did, 600*time.Millisecond)
	r.owners.setBeat(func() ([]uint16, bool) { return []uint16{0}, false })
	if got := wait(t, "freeze", r.guard.did); got != "freeze" {
		t.Fatal(got)
	}
	none(t, "second act", r.guard.did, 200*time.Millisecond)
	r.owners.setBeat(nil)
	if got := wait(t, "thaw", r.guard.did); got != "thaw" {
		t.Fatal(got)
	}
	r.owners.setBeat(func() ([]uint16, bool) { return nil, true })
	if got := wait(t, "kill", r.guard.did); got != "kill" {
		t.Fatal(got)
	}
	if err := wait(t, "end", r.ran); err == nil {
		t.Fatal("Run must say that the boot was lost")
	}
	r.ran <- nil
}

func TestLeaseRunsOutWithoutAStream(t *testing.T) {
	r := start(t, newScriptApp(ok), shortLease)
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", r.owners.answers)
	r.proxy.cut(true)
	if got := wait(t, "freeze", r.guard.did); got != "freeze" {
		t.Fatal(got)
	}
	r.proxy.cut(false)
	wait(t, "second join", r.owners.ups)
	if got := wait(t, "thaw", r.guard.did); got != "thaw" {
		t.Fatal(got)
	}
}

func TestIdleHostIsNeverFrozen(t *testing.T) {
	r := start(t, http.HandlerFunc(ok), shortLease)
	wait(t, "join", r.owners.ups)
	r.proxy.cut(true)
	none(t, "act", r.guard.did, 600*time.Millisecond)
	r.proxy.cut(false)
	wait(t, "second join", r.owners.ups)
}

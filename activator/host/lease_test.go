package host_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
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

// stuckLog takes lines about the frozen app only when it may.
type stuckLog struct {
	slog.Handler
	says, may chan struct{}
}

func (s *stuckLog) Enabled(context.Context, slog.Level) bool { return true }

func (s *stuckLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "the app is frozen") {
		close(s.says)
		<-s.may
	}
	return nil
}

// TestLeaseActsFirst: the app is frozen before that is said, and while the loop that
// keeps the lease is stuck it does not claim to come round.
func TestLeaseActsFirst(t *testing.T) {
	said := &stuckLog{Handler: slog.DiscardHandler, says: make(chan struct{}), may: make(chan struct{})}
	turns := make(chan struct{})
	r := start(t, newScriptApp(ok), shortLease, func(_ *rig, _ *activator.Config, c *host.Config) {
		c.Logger = slog.New(said)
		c.OnTurn = func() {
			select {
			case turns <- struct{}{}:
			default:
			}
		}
	})
	wait(t, "join", r.owners.ups)
	r.owners.send(actorCall(1, "x", "/m", "[]"))
	wait(t, "answer", r.owners.answers)
	wait(t, "turn", turns)
	r.owners.setBeat(func() ([]uint16, bool) { return []uint16{0}, false })
	if got := wait(t, "freeze", r.guard.did); got != "freeze" {
		t.Fatal(got)
	}
	wait(t, "word about it", said.says)
	none(t, "turn", turns, 300*time.Millisecond)
	close(said.may)
	wait(t, "turn", turns)
}

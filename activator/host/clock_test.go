package host_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// A fakeClock is off by what was set last.
type fakeClock struct{ off atomic.Int64 }

func (c *fakeClock) set(d time.Duration) { c.off.Store(int64(d)) }
func (c *fakeClock) now() time.Time      { return time.Now().Add(time.Duration(c.off.Load())) }

// idsBy are the ages of ids of the app's requests by the gateway's clock when they come.
func idsBy(t *testing.T, r *rig, clock *fakeClock) (age func() time.Duration) {
	ages := make(chan time.Duration, 10)
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		ages <- clock.now().Sub(time.UnixMilli(runtime.CallerOf(q.Context()).ID.Millis()))
	})
	s := sidecar(t, r)
	return func() time.Duration {
		res, err := http.Post(s.URL+"/kar/v1/actor/T/x/call/m", "", strings.NewReader("[]"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return wait(t, "request", ages)
	}
}

// offLine waits for the line about clocks that differ and returns the difference.
func offLine(t *testing.T, log *said) (off time.Duration) {
	for {
		line := wait(t, "line about the clock", log.lines)
		if !strings.HasPrefix(line.Message, "the clock of this machine differs") {
			continue
		}
		line.Attrs(func(a slog.Attr) bool {
			off = a.Value.Duration()
			return true
		})
		return off
	}
}

// TestIDsGoByTheGatewaysClock: whatever the clock of a component's machine says, and
// whatever it says later, owners find its ids young.
func TestIDsGoByTheGatewaysClock(t *testing.T) {
	for _, off := range []time.Duration{-24 * time.Hour, -time.Hour, time.Hour, 24 * time.Hour} {
		own, gateway, log := &fakeClock{}, &fakeClock{}, newSaid(slog.LevelWarn)
		own.set(off)
		r := start(t, newScriptApp(ok), func(_ *rig, a *activator.Config, c *host.Config) {
			a.Now, c.Now, c.Logger = gateway.now, own.now, slog.New(log)
		})
		age := idsBy(t, r, gateway)
		if a := age(); a.Abs() > patience {
			t.Errorf("clock off by %s: the id came %s old", off, a)
		}
		if said := offLine(t, log); (said - off).Abs() > patience {
			t.Errorf("clock off by %s: the line says %s", off, said)
		}
		own.set(-off)
		if a := age(); a.Abs() > patience {
			t.Errorf("clock set from %s to %s: the id came %s old", off, -off, a)
		}
	}
}

// TestGatewaysClockIsSet: when the clock of the gateway is set, ids follow with a beat.
func TestGatewaysClockIsSet(t *testing.T) {
	gateway := &fakeClock{}
	r := start(t, newScriptApp(ok), func(_ *rig, a *activator.Config, _ *host.Config) { a.Now = gateway.now })
	age := idsBy(t, r, gateway)
	age()
	for _, off := range []time.Duration{25 * time.Hour, -time.Hour, 0} {
		gateway.set(off)
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			a := age()
			if a.Abs() < time.Minute {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the gateway's clock was set to %s: the id came %s old", off, a)
			}
		}
	}
}

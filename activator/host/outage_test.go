package host_test

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/activator"
	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/runtime"
)

// said passes on what is logged from a level on.
type said struct {
	slog.Handler
	level slog.Level
	lines chan slog.Record
}

func newSaid(level slog.Level) *said {
	return &said{slog.DiscardHandler, level, make(chan slog.Record, 1000)}
}

func (s *said) Enabled(_ context.Context, l slog.Level) bool { return l >= s.level }

func (s *said) Handle(_ context.Context, r slog.Record) error {
	s.lines <- r
	return nil
}

// TestWhatWaitsForAStreamIsYoung: what the app asks for while no gateway can be
// reached is given to none, so it is not old when one comes, however long that took.
func TestWhatWaitsForAStreamIsYoung(t *testing.T) {
	log, waiting := newSaid(slog.LevelInfo), make(chan struct{}, 1)
	r := start(t, newScriptApp(ok), func(_ *rig, _ *activator.Config, c *host.Config) {
		c.Logger = slog.New(log)
		c.OnWaiting = func(runtime.Target, time.Duration) { waiting <- struct{}{} }
	})
	ids := make(chan runtime.ID, 10)
	r.api = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { ids <- runtime.CallerOf(q.Context()).ID })
	s := sidecar(t, r)
	wait(t, "start", r.host.Ready())
	r.proxy.cut(true)
	for !strings.Contains(wait(t, "end of the stream", log.lines).Message, "the stream to the gateway broke") {
	}
	asked := []struct{ method, path, pragma string }{
		{"PUT", "/actor/T/x/state/k", ""}, {"POST", "/actor/T/x/call/m", "async"}, {"POST", "/event/t/publish", ""},
		{"PUT", "/actor/T/x/reminders/r", ""}, {"POST", "/actor/T/x/call/m", ""},
	}
	answered := make(chan int, len(asked))
	for _, a := range asked {
		go func() {
			q, _ := http.NewRequest(a.method, s.URL+"/kar/v1"+a.path, strings.NewReader("[]"))
			q.Header.Set("Pragma", a.pragma)
			if res, err := http.DefaultClient.Do(q); err == nil {
				_ = res.Body.Close()
				answered <- res.StatusCode
			}
		}()
	}
	wait(t, "call that waits", waiting)
	again := time.Now().UnixMilli()
	r.proxy.up()
	var got []runtime.ID
	for range asked {
		id := wait(t, "request", ids)
		if id.IsZero() || slices.Contains(got, id) {
			t.Errorf("the id %s", id)
		}
		if age := again - id.Millis(); age > 100 {
			t.Errorf("an id was %d ms old when the gateway came back", age)
		}
		got = append(got, id)
		if status := wait(t, "answer", answered); status != 200 {
			t.Error(status)
		}
	}
}

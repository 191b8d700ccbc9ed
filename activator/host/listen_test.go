package host

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// TestNeverListensIsSaid: a slow start is a warning; a component that still
// does not listen much later is an error, unless nobody can call it.
func TestNeverListensIsSaid(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for name, c := range map[string]struct {
		info        runtime.HostInfo
		began, told time.Time
		level       string
	}{
		"at once":          {runtime.HostInfo{Service: "s"}, time.Time{}, time.Time{}, ""},
		"after a second":   {runtime.HostInfo{Service: "s"}, ago(1100 * time.Millisecond), time.Time{}, "WARN"},
		"just said":        {runtime.HostInfo{Service: "s"}, ago(3 * time.Second), ago(time.Second), ""},
		"a service, later": {runtime.HostInfo{Service: "s"}, ago(12 * time.Second), ago(11 * time.Second), "ERROR"},
		"actors, later":    {runtime.HostInfo{Actors: []string{"T"}}, ago(12 * time.Second), ago(11 * time.Second), "ERROR"},
		"a client, later":  {runtime.HostInfo{}, ago(12 * time.Second), ago(11 * time.Second), "WARN"},
	} {
		var log bytes.Buffer
		h := &Host{ctx: context.Background(), base: &url.URL{Host: "127.0.0.1:1"}}
		h.cfg = Config{Info: c.info, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		r := refusals{began: c.began, told: c.told}
		r.pause(h)
		said := log.String()
		if c.level == "" && said != "" || !strings.Contains(said, c.level) || c.level != "" && !strings.Contains(said, string(runtime.CodeNotListening)) {
			t.Errorf("%s: got %q, want level %q", name, said, c.level)
		}
	}
}

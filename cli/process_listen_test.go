package cli

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestAppListensElsewhere: an app that listens on no address of its port, or on ::1
// only, is named at the usual level of the log, again and again.
func TestAppListensElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for most of its time")
	}
	t.Parallel()
	for name, words := range map[string][]string{
		"nowhere":     {"does not listen on 127.0.0.1:", "app_not_listening", "KAR_APP_PORT"},
		"on ::1 only": {"does not listen on 127.0.0.1:", "something listens on [::1]:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "[::1]:0")
			if err != nil {
				t.Skip("SKIPPED: this machine has no ::1:", err)
			}
			_, port, _ := net.SplitHostPort(l.Addr().String())
			if name == "nowhere" {
				l.Close()
			} else {
				defer l.Close()
			}
			u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
			p := u.start("run", "-app", "a", "-service", "s", "-app_port", port, "--", "sh", "-c", "exec sleep 60")
			begun := time.Now()
			for strings.Count(p.errout.String(), words[0]) < 2 {
				if time.Since(begun) > 45*time.Second {
					t.Fatalf("it is not said twice:\n%s", p.errout.String())
				}
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(begun); took < 15*time.Second {
				t.Errorf("it is said twice in %s", took)
			}
			for _, w := range words {
				if !strings.Contains(p.errout.String(), w) {
					t.Errorf("it does not say %q:\n%s", w, p.errout.String())
				}
			}
		})
	}
}

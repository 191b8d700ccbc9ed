package guard

import (
	"context"
	"time"
)

// A Gateway is whom to tell, and what it takes to be heard there.
type Gateway struct {
	Address string `json:"address,omitempty"` // "unix:///path" or "http://host:port"
	Token   string `json:"token,omitempty"`   // of the app
	CA      string `json:"ca,omitempty"`      // certificates in PEM
}

// Report tells a gateway that a boot has stopped; host.ReportExit does it.
type Report func(ctx context.Context, gateway Gateway, boot, reason string) error

// reportFor is how long a guard without sidecar tries to reach the gateway: a
// gateway that was killed is back within seconds. After that the lease tells.
const reportFor = 10 * time.Second

// reportExit repeats the report until it is heard. It is proof, so the retry
// of interrupted work can start at once.
func reportExit(report Report, gateway Gateway, boot, reason string) {
	if report == nil || gateway.Address == "" || boot == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportFor)
	defer cancel()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if report(ctx, gateway, boot, reason) == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Package host is the host's end of the attach tunnel: it dials a gateway,
// runs the attempts that the owners of partitions ask for as plain HTTP
// requests to the app, and serves the app's own requests.
package host

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/karmesh/kar/runtime"
)

// A Guard holds the process group of the app. Calls may come from any goroutine,
// and repeatedly.
type Guard interface {
	// Freeze stops the processes where they are (SIGSTOP).
	Freeze()
	// Thaw lets them go on.
	Thaw()
	// Kill ends them. The exit is then reported by whoever sees it.
	Kill(reason string)
}

// Config of a host. Info, Gateway and AppURL are required.
type Config struct {
	// Info describes this boot. Grace is filled in from the gateway's lease.
	Info runtime.HostInfo
	// Gateway is "unix:///path/of/socket", or "http://host:port", of which there
	// may be several, separated by commas.
	Gateway string
	// Access is what the gateway asks of those who come over TCP.
	Access Access
	// Ensure, when set, is called before each dial; it makes sure that a gateway runs
	// and returns its address, which need not be Gateway any more.
	Ensure func(ctx context.Context) (address string, err error)
	// AppURL is where the app listens, http://127.0.0.1:8080.
	AppURL string
	// H2C talks HTTP/2 without TLS to the app.
	H2C bool
	// Guard holds the app's processes; nil when this process did not start the app.
	Guard Guard
	// Witness, when set, sees the processes that listen at AppURL.
	Witness Witness
	// Foreign, when set, tells that who listens at AppURL is certainly not the app:
	// it gets no calls then, as if nobody listened.
	Foreign func() bool
	// NoApp is for clients that only ask (kar invoke, kar rest, kar get): there
	// is no app to wait for.
	NoApp bool
	// OnShutdown is called once after the app has asked for POST /kar/v1/system/shutdown.
	OnShutdown func()
	// OnWaiting, when set, is called once for each call of the app that has had
	// no answer for a second.
	OnWaiting func(target runtime.Target, waited time.Duration)
	// OnTurn, when set, is called after each turn of the loop that keeps the lease, at
	// least three times a second while the loop is well. It must not wait.
	OnTurn func()
	// BodyLimit in bytes until the gateway has told its own; 0 means 4 MiB.
	BodyLimit int
	// KeepLimit is how many bytes of finished answers are kept until the owner
	// has taken them; 0 means 64 MiB. Beyond it answers are lost, which permits a retry.
	KeepLimit int
	// DefaultHeader is added to the app's API requests where the app did not set a field.
	DefaultHeader runtime.Header
	Version       string
	Logger        *slog.Logger
	// Now is the clock of this machine; nil means time.Now.
	Now func() time.Time
}

func (c *Config) validate() error {
	if c.Info.Boot == "" || c.Info.App == "" {
		return errors.New("host: Info.Boot and Info.App are required")
	}
	if _, err := SplitGateways(c.Gateway); err != nil {
		return err
	}
	if !c.NoApp {
		u, err := url.Parse(c.AppURL)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return runtime.Errorf(runtime.CodeBadConfig, "the address of the app %q is not http://host:port", c.AppURL)
		}
	}
	if c.BodyLimit == 0 {
		c.BodyLimit = 4 << 20
	}
	if c.KeepLimit == 0 {
		c.KeepLimit = 64 << 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

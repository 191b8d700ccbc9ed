package activator

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/karmesh/kar/runtime"
)

type link struct{}
type workers struct{}

func newWorkers() *workers { return nil }
func (w *workers) close()  {}

// ServeHTTP is the attach endpoint, mounted at /kar/attach.
func (a *Activator) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("pending") }

// Exit takes the guard's report, POST /kar/exit {"boot":…,"reason":…}.
func (a *Activator) Exit(w http.ResponseWriter, r *http.Request) { panic("pending") }

// URLService is a service that is reached by URL.
type URLService struct {
	App, Name, URL string
	Timeout        time.Duration
}

// URLHosts keeps one host attached for each url service.
type URLHosts struct{}

// NewURLHosts makes an empty set. Node makes the boot ids differ between starts of the gateway.
func NewURLHosts(owners runtime.Owners, node string, bodyLimit int, log *slog.Logger) *URLHosts {
	panic("pending")
}

// Set replaces the list.
func (u *URLHosts) Set(list []URLService) { panic("pending") }

// Close detaches all and waits for calls in flight.
func (u *URLHosts) Close() error { panic("pending") }

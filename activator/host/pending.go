package host

import (
	"context"
	"net/http"
)

// Host is the host's end of the attach tunnel.
type Host struct{}

// New checks the configuration.
func New(cfg Config) (*Host, error) { panic("pending") }

// Run waits for the app, attaches, serves and attaches again when the stream
// goes, until ctx ends (nil) or the boot was counted lost (CodeHostLost) or the
// gateway cannot serve this version.
func (h *Host) Run(ctx context.Context) error { panic("pending") }

// Handler is the sidecar's REST API, /kar/v1/….
func (h *Host) Handler() http.Handler { panic("pending") }

// Ready is closed when the first join was answered.
func (h *Host) Ready() <-chan struct{} { panic("pending") }

// Drain tells the owners that this host takes nothing new and waits until
// what runs has ended and been taken.
func (h *Host) Drain(ctx context.Context) error { panic("pending") }

// Exit reports that the app's processes have ended. Nothing may follow.
func (h *Host) Exit(ctx context.Context, reason string) error { panic("pending") }

// ReportExit tells a gateway that a boot has ended, without a stream; the guard
// uses it when the sidecar is gone.
func ReportExit(ctx context.Context, gateway, boot, reason string) error { panic("pending") }

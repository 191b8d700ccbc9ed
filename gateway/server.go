package gateway

import (
	"log/slog"
	"net/http"
	"time"
)

// NewServer is an http.Server for the API: HTTP/1.1 and cleartext HTTP/2 with
// prior knowledge on the same port. There is no limit on the time of an answer,
// since calls wait for their outcome. Its Shutdown waits for requests in flight.
func NewServer(h http.Handler, logger *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       10 * time.Minute,
		MaxHeaderBytes:    256 << 10,
		// KAR 1.x allows as many, and its JavaScript SDK puts all its calls on one connection.
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 262144},
	}
	if logger != nil {
		s.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	}
	return s
}

package gateway

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// NewDoor is NewServer for those whom nobody knows yet: what one connection may
// hold is small. Whose connections they are, and for how long, is the guard's to say.
func NewDoor(h http.Handler, logger *slog.Logger) *http.Server {
	s := NewServer(h, logger)
	s.ReadHeaderTimeout = 10 * time.Second
	s.MaxHeaderBytes = 64 << 10
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250, WriteByteTimeout: 30 * time.Second, SendPingTimeout: time.Minute}
	return s
}

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
		s.ErrorLog = log.New(serverLog{logger}, "", 0)
	}
	return s
}

// serverLog takes what net/http has to say. Panics and connections that cannot
// be accepted are ours to know of; what any client can cause is not worth a line.
type serverLog struct{ logger *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	level, text := slog.LevelWarn, strings.TrimRight(string(line), "\n")
	for _, theirs := range []string{"http: TLS handshake error", "http2: ", "http: URL query contains semicolon"} {
		if strings.HasPrefix(text, theirs) && !strings.Contains(text, "panic") {
			level = slog.LevelDebug
		}
	}
	l.logger.Log(context.Background(), level, "the HTTP server has something to say", "text", text)
	return len(line), nil
}

package redis

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// A logKeeper keeps what was logged.
type logKeeper struct {
	mu   sync.Mutex
	text strings.Builder
}

func (k *logKeeper) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(b)
}

func (k *logKeeper) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

func (k *logKeeper) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(k, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func testLog(testing.TB) *slog.Logger { return slog.New(slog.DiscardHandler) }

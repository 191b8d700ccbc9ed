package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/karmesh/kar/runtime"
)

// logTime is how KAR 1.x wrote the time before each line.
const logTime = "2006/01/02 15:04:05.000000"

// A verbosity is KAR 1.x's -v: fatal 0, error 1, warning 2, info 3, debug 4 and above.
type verbosity int

const verboseInfo verbosity = 3

func parseVerbosity(s string) (verbosity, error) {
	for i, name := range []string{"fatal", "error", "warning", "info", "debug"} {
		if strings.EqualFold(s, name) {
			return verbosity(i), nil
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, runtime.Errorf(runtime.CodeBadFlag, "-v is %q, but must be fatal, error, warning, info, debug or a number", s)
	}
	return verbosity(n), nil
}

// level is the lowest level that is shown.
func (v verbosity) level() slog.Level {
	switch {
	case v <= 0:
		return slog.LevelError + 4
	case v == 1:
		return slog.LevelError
	case v == 2:
		return slog.LevelWarn
	case v == verboseInfo:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// A lineHandler writes log records as KAR 1.x did: time, [LEVEL], message,
// then attributes as key=value.
type lineHandler struct {
	out   io.Writer
	mu    *sync.Mutex
	level slog.Level
	attrs string
	group string
}

func newLogger(out io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&lineHandler{out: out, mu: new(sync.Mutex), level: level})
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Time.Format(logTime))
	b.WriteString(" [" + levelName(r.Level) + "] " + r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(h.attr(a))
		return true
	})
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.out, b.String())
	return err
}

// valueLimit is the longest value in bytes; many come from outside.
const valueLimit = 1000

// printable tells whether a text that others made can go to a terminal or a log
// as it is.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (h *lineHandler) attr(a slog.Attr) string {
	value := fmt.Sprint(a.Value.Resolve().Any())
	if len(value) > valueLimit && a.Key != "stack" {
		value = value[:valueLimit] + "…"
	}
	if value == "" || strings.ContainsAny(value, " \"=") || !printable(value) {
		value = strconv.Quote(value)
	}
	return " " + h.group + a.Key + "=" + value
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		next.attrs += h.attr(a)
	}
	return &next
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.group += name + "."
	return &next
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARNING"
	case l >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

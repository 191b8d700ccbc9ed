package cli

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

func newPrefixer(out *bytes.Buffer) *prefixer {
	at := time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC)
	return &prefixer{out: out, now: func() time.Time { return at }}
}

func TestPrefixes(t *testing.T) {
	var out bytes.Buffer
	p := newPrefixer(&out)
	p.pump(strings.NewReader("one\n\ntwo without end"), "STDOUT")
	const head = "2030/01/02 03:04:05.678901 [STDOUT] "
	if want := head + "one\n" + head + "\n" + head + "two without end\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestPrefixOnceForALongLine(t *testing.T) {
	for _, size := range []int{64<<10 + 1, pieceLimit, 3*pieceLimit + 5} {
		var out bytes.Buffer
		long := strings.Repeat("x", size)
		newPrefixer(&out).pump(strings.NewReader(long+"\nnext\n"), "STDERR")
		if n := strings.Count(out.String(), "[STDERR]"); n != 2 {
			t.Errorf("%d bytes: %d prefixes, want 2", size, n)
		}
		if !strings.Contains(out.String(), " "+long+"\n") {
			t.Errorf("%d bytes: the line did not come through whole", size)
		}
	}
}

func TestLongLineIsBrokenByTheOtherStream(t *testing.T) {
	var out bytes.Buffer
	p := newPrefixer(&out)
	p.emit("STDOUT", []byte("begin"))
	p.emit("STDERR", []byte("other\n"))
	p.emit("STDOUT", []byte("end\n"))
	got := strings.ReplaceAll(out.String(), "2030/01/02 03:04:05.678901 ", "")
	if want := "[STDOUT] begin\n[STDERR] other\n[STDOUT] end\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelInfo)
	log.Debug("unseen")
	log.With("a", 1).Warn("something happened", "b", "two words", "c", "")
	want := regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[WARNING\] something happened a=1 b="two words" c=""\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got %q", out.String())
	}
}

func TestVerbosity(t *testing.T) {
	for given, want := range map[string]slog.Level{
		"error": slog.LevelError, "1": slog.LevelError, "Warning": slog.LevelWarn,
		"info": slog.LevelInfo, "3": slog.LevelInfo, "debug": slog.LevelDebug, "9": slog.LevelDebug,
	} {
		if v, err := parseVerbosity(given); err != nil || v.level() != want {
			t.Errorf("%s: got %v, %v", given, v.level(), err)
		}
	}
}

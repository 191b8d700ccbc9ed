package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLogIsOneLineOfText: what others put into a log line neither ends it nor
// reaches the terminal that shows it.
func TestLogIsOneLineOfText(t *testing.T) {
	for _, evil := range []string{"x\x1b[2J\x1b]0;pwned\x07", "a\rb", "a\nb [ERROR] c", "a\u2028b", "\u202eb", "\x80", "a\u0085b", strings.Repeat("x", 70_000)} {
		var out bytes.Buffer
		newLogger(&out, slog.LevelInfo).With("host", evil).Warn("refused", "reason", evil)
		line := out.String()
		if body := strings.TrimSuffix(line, "\n"); !printable(body) || len(line) > 5000 {
			t.Errorf("%.40q: %d bytes, %.200q", evil, len(line), line)
		}
	}
	var out bytes.Buffer
	newLogger(&out, slog.LevelInfo).Warn("x", "a", "größe", "stack", strings.Repeat("y", 2000))
	if line := out.String(); !strings.Contains(line, " a=größe ") || len(line) < 2000 {
		t.Errorf("%s", line)
	}
}

// TestGetShowsNamesPlain: ids are what users make them.
func TestGetShowsNamesPlain(t *testing.T) {
	u := newUser(t)
	p, url := u.guardedGateway()
	evil := "a\n    fake\x1b[31mred\x1b]0;t\x07"
	for _, id := range []string{"a%0A%20%20%20%20fake%1B[31mred%1B]0;t%07", "gr%C3%B6%C3%9Fe"} {
		if status, code, text := ask(t, "PUT", url+"/apps/a/kar/v1/actor/T/"+id+"/state/k", "", "1"); status != 201 {
			t.Fatalf("%d %s %s", status, code, text)
		}
	}
	for _, args := range [][]string{{}, {"-t", "T"}, {"-t", evil}, {"-t", "T", "-i", evil}, {"-t", evil, "-i", evil}, {"-s", "sidecars"}} {
		got := u.kar(append([]string{"get", "-app", "a"}, args...)...)
		if text := strings.ReplaceAll(got.out, "\n", ""); got.code != 0 || !printable(text) || strings.Contains(got.out, "\n    fake") {
			t.Errorf("%q: %+v", args, got)
		}
		if len(args) == 0 && !strings.Contains(got.out, "    größe\n") {
			t.Errorf("got %s", got.out)
		}
	}
	if got := u.kar("get", "-app", "a", "-o", "json"); !strings.Contains(got.out, `"a\n    fake\u001b[31mred`) {
		t.Errorf("JSON: %s", got.out)
	}
	_ = p.cmd.Process.Kill()
}

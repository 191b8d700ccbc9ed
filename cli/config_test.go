package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

// parseRun is what `kar run` makes of arguments, environment and files.
func parseRun(t *testing.T, env map[string]string, args ...string) (*config, error) {
	t.Helper()
	p := &program{out: io.Discard, errout: io.Discard, getenv: func(k string) string { return env[k] }}
	cmd := &cobra.Command{Use: "run"}
	addFlags(cmd.Flags(), commonSettings(), limitSettings(), runSettings(), legacySettings())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return p.loadConfig(cmd, commonSettings(), limitSettings(), runSettings(), legacySettings())
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOrder takes the sources away one by one, from the strongest.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "config.yaml"), "app_port: 3\nservice: from-file\n")
	write(t, filepath.Join(dir, "d", "app_port"), "4\n")
	write(t, filepath.Join(dir, "d", "service"), "from-dir")
	write(t, filepath.Join(dir, "d", "redis_ca"), "certificate")
	env := map[string]string{"KAR_APP_PORT": "2", "KAR_CONFIG": file, "KAR_CONFIG_DIR": filepath.Join(dir, "d")}

	steps := []struct {
		source string
		args   []string
		drop   string
		want   string
	}{
		{"flag", []string{"--app-port", "1"}, "", "1"},
		{"environment", nil, "", "2"},
		{"file", nil, "KAR_APP_PORT", "3"},
		{"-config_dir", nil, "KAR_CONFIG", "4"},
		{"default", nil, "KAR_CONFIG_DIR", "8080"},
	}
	for _, s := range steps {
		delete(env, s.drop)
		c, err := parseRun(t, env, s.args...)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.text("app-port"); got != s.want {
			t.Errorf("with %s as the strongest source: got %s, want %s", s.source, got, s.want)
		}
		if c.given("app-port") != (s.source != "default") {
			t.Errorf("%s: given is %v", s.source, c.given("app-port"))
		}
		if s.source == "-config_dir" && (c.text("service") != "from-dir" || c.text("redis-ca-cert") != "certificate") {
			t.Errorf("-config_dir: service %q, redis_ca %q", c.text("service"), c.text("redis-ca-cert"))
		}
	}
}

func TestFlagWithDefaultValueStillWins(t *testing.T) {
	c, err := parseRun(t, map[string]string{"KAR_APP_PORT": "9000", "KAR_CANCEL": "true"}, "--app-port", "8080", "--cancel=false")
	if err != nil || c.text("app-port") != "8080" || c.boolean("cancel") {
		t.Errorf("got %s and cancel %s, %v", c.text("app-port"), c.text("cancel"), err)
	}
}

func TestFileInItsUsualPlace(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, ".config", "kar", "config.yaml"), "grace: 3s\nlisten: 127.0.0.1:1\n")
	c, err := parseRun(t, map[string]string{"HOME": home})
	if err != nil || c.span("grace").Seconds() != 3 {
		t.Errorf("got %s, %v", c.text("grace"), err)
	}
}

func TestBadConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, env := range map[string]map[string]string{
		"unknown key":   {"KAR_CONFIG": write(t, filepath.Join(dir, "1.yaml"), "ap_port: 3\n")},
		"not yaml":      {"KAR_CONFIG": write(t, filepath.Join(dir, "2.yaml"), "a: [\n")},
		"absent file":   {"KAR_CONFIG": filepath.Join(dir, "absent.yaml")},
		"absent folder": {"KAR_CONFIG_DIR": filepath.Join(dir, "absent")},
	} {
		_, err := parseRun(t, env)
		var re *runtime.Error
		if !errors.As(err, &re) || re.Code != runtime.CodeBadConfig {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestBadValues(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--app", "a", "--app-port", "x"}, {"--app", "a", "--app-port", "70000"}, {"--app", "a", "--runtime-port", "-1"},
		{"--app", "a", "--grace", "soon"}, {"--app", "a", "--grace", "-1s"}, {"--app", "a", "-v", "loud"},
		{"--app", "a", "--missing-component-timeout", "x"}, {"--app", "a", "--actor-collector-interval", "-1s"},
	} {
		c, err := parseRun(t, nil, args...)
		if err == nil {
			_, err = runSpecOf(c, nil)
		}
		var re *runtime.Error
		if !errors.As(err, &re) || re.Code != runtime.CodeBadFlag || exitCodeOf(err) != exitUsage {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

func TestNumbersAreSeconds(t *testing.T) {
	c, err := parseRun(t, nil, "--app", "a", "--grace", "3")
	if err != nil || c.span("grace").Seconds() != 3 {
		t.Errorf("got %v, %v", c.span("grace"), err)
	}
}

// TestDocumentationIsComplete compares docs/configuration.md with the tables.
func TestDocumentationIsComplete(t *testing.T) {
	b, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for name, s := range allSettings() {
		for _, word := range append([]string{"`--" + name + "`"}, s.env...) {
			if !strings.Contains(page, word) {
				t.Errorf("docs/configuration.md does not mention %s", word)
			}
		}
		if s.def != "" && s.def != "false" && !s.legacy && !strings.Contains(page, "| `"+s.def+"`") {
			t.Errorf("docs/configuration.md does not show the default %s of --%s", s.def, name)
		}
	}
}

// What one gateway tells another has room for the largest body that may be set.
func TestFramesHoldTheLargestBody(t *testing.T) {
	const most = 1<<28 - 1 // of a frame, see gateway/peer
	for _, body := range []int{1, 60 << 20, 66 << 20, maxBody} {
		if n := frameLimit(body); n < body+8<<20 && body > 48<<20 || n < 64<<20 || n > most {
			t.Errorf("a body of %d in frames of %d", body, n)
		}
	}
}

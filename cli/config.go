package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/karmesh/kar/runtime"
)

// A config answers what a command was told. The order: flag, environment,
// configuration file, -config_dir, default.
type config struct {
	v     *viper.Viper
	known map[string]setting
	set   map[string]bool // what somebody said, by whatever means
	err   error           // the first value that makes no sense
}

// loadConfig reads what the groups of settings need for this command.
func (p *program) loadConfig(cmd *cobra.Command, groups ...[]setting) (*config, error) {
	c := &config{v: viper.New(), known: map[string]setting{}, set: map[string]bool{}}
	for _, group := range groups {
		for _, s := range group {
			c.known[s.name] = s
			c.v.SetDefault(s.name, s.def)
			if f := cmd.Flags().Lookup(s.name); f != nil {
				if err := c.v.BindPFlag(s.name, f); err != nil {
					return nil, err
				}
				c.set[s.name] = f.Changed
			}
		}
	}
	if err := c.readFile(p); err != nil {
		return nil, err
	}
	c.readEnv(p)
	if err := c.readDir(); err != nil {
		return nil, err
	}
	return c, nil
}

// readEnv puts the environment between flags and file. It asks getenv rather
// than the process, so that tests can run side by side.
func (c *config) readEnv(p *program) {
	env := map[string]any{}
	for name, s := range c.known {
		for _, key := range s.env {
			if value := p.getenv(key); value != "" {
				env[name], c.set[name] = value, true
				break
			}
		}
	}
	_ = c.v.MergeConfigMap(env) // over the file's values, below the flags
}

// readFile merges $KAR_CONFIG, or config.yaml in $XDG_CONFIG_HOME/kar or
// ~/.config/kar. Keys are flag names; - and _ are the same.
func (c *config) readFile(p *program) error {
	path, asked := p.getenv("KAR_CONFIG"), true
	if path == "" {
		asked = false
		base := p.getenv("XDG_CONFIG_HOME")
		if base == "" && p.getenv("HOME") != "" {
			base = filepath.Join(p.getenv("HOME"), ".config")
		}
		if base == "" {
			return nil
		}
		path = filepath.Join(base, "kar", "config.yaml")
	}
	if _, err := os.Stat(path); err != nil {
		if !asked && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return runtime.Errorf(runtime.CodeBadConfig, "cannot read the configuration file: %v", err)
	}
	file := viper.New()
	file.SetConfigFile(path)
	file.SetConfigType("yaml")
	if err := file.ReadInConfig(); err != nil {
		return runtime.Errorf(runtime.CodeBadConfig, "the configuration file %s cannot be read: %v", path, err)
	}
	all := allSettings()
	values := map[string]any{}
	for key, value := range file.AllSettings() {
		name := strings.ReplaceAll(key, "_", "-")
		if _, ok := all[name]; !ok {
			return runtime.Errorf(runtime.CodeBadConfig, "the configuration file %s has an unknown setting %q", path, key)
		}
		if _, ok := c.known[name]; ok {
			values[name], c.set[name] = value, true
		}
	}
	return c.v.MergeConfigMap(values)
}

// readDir reads one file for each setting, as KAR 1.x did. One newline at the
// end is not part of the value.
func (c *config) readDir() error {
	dir := c.v.GetString("config-dir")
	if dir == "" {
		return nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return runtime.Errorf(runtime.CodeBadConfig, "-config_dir %s is not a folder that can be read", dir)
	}
	for name, s := range c.known {
		b, err := os.ReadFile(filepath.Join(dir, s.dirName()))
		switch {
		case err == nil:
			c.v.SetDefault(name, strings.TrimSuffix(string(b), "\n"))
			c.set[name] = true
		case !errors.Is(err, fs.ErrNotExist):
			return runtime.Errorf(runtime.CodeBadConfig, "cannot read a setting: %v", err)
		}
	}
	return nil
}

// allSettings by name.
func allSettings() map[string]setting {
	all := map[string]setting{}
	for _, group := range [][]setting{commonSettings(), limitSettings(), runSettings(), gatewaySettings(), legacySettings(), restSettings()} {
		for _, s := range group {
			all[s.name] = s
		}
	}
	return all
}

func (c *config) text(name string) string { return c.v.GetString(name) }

// given tells whether somebody said it, by whatever means.
func (c *config) given(name string) bool { return c.set[name] }

func (c *config) boolean(name string) bool {
	b, err := strconv.ParseBool(c.text(name))
	if err != nil {
		c.refuse(name, "true or false")
	}
	return b
}

func (c *config) integer(name string) int {
	n, err := strconv.Atoi(c.text(name))
	if err != nil {
		c.refuse(name, "a whole number")
	}
	return n
}

// port is an integer from 0 to 65535.
func (c *config) port(name string) int {
	n := c.integer(name)
	if n < 0 || n > 65535 {
		c.refuse(name, "a port number from 0 to 65535")
	}
	return n
}

// span is a duration; a plain number counts as seconds.
func (c *config) span(name string) time.Duration {
	s := c.text(name)
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return time.Duration(n) * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		c.refuse(name, "a duration such as 90s or 2m")
	}
	return d
}

func (c *config) refuse(name, want string) {
	if c.err == nil {
		c.err = runtime.Errorf(runtime.CodeBadFlag, "--%s is %q, but must be %s", name, c.text(name), want)
	}
}

// list splits a comma list and drops empty parts.
func (c *config) list(name string) (parts []string) {
	for part := range strings.SplitSeq(c.text(name), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// app is the application's name, which most commands need.
func (c *config) app() string {
	app := c.text("app")
	if app == "" && c.err == nil {
		c.err = runtime.Errorf(runtime.CodeBadFlag, "the application is missing: give --app NAME or set KAR_APP")
	}
	return app
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// restateVersion is the version that npm installs for the comparison.
const restateVersion = "1.7.12"

// rivals loads Restate and KAR one after the other in the same run: a durable
// call of a keyed object, its handler in Go, 1,000 keys, 1, 16 and 128 clients.
func (b *bench) rivals() error {
	if err := b.restate(); err != nil {
		return err
	}
	return b.calls()
}

func (b *bench) restate() error {
	dir, err := b.folder("restate")
	if err != nil {
		return err
	}
	npm := exec.CommandContext(b.ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "@restatedev/restate-server@"+restateVersion)
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install: %w\n%s", err, out)
	}
	servers, _ := filepath.Glob(filepath.Join(dir, "node_modules", "@restatedev", "restate-server-linux-*", "bin", "restate-server"))
	if len(servers) == 0 {
		return fmt.Errorf("npm brought no restate-server for this machine")
	}
	handler := filepath.Join(dir, "handler")
	build := exec.CommandContext(b.ctx, "go", "build", "-C", filepath.Join("bench", "rivals"), "-o", handler, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building bench/rivals (run from the root of the module): %w\n%s", err, out)
	}
	port, ingress, admin, fabric := freePort(), freePort(), freePort(), freePort()
	h, err := start(dir, "handler", []string{"PORT=" + port}, handler)
	if err != nil {
		return err
	}
	defer h.end(syscall.SIGKILL)
	s, err := start(dir, "restate", []string{
		"RESTATE_BASE_DIR=" + filepath.Join(dir, "data"),
		"RESTATE_DISABLE_TELEMETRY=true",
		"RESTATE_INGRESS__BIND_ADDRESS=127.0.0.1:" + ingress,
		"RESTATE_ADMIN__BIND_ADDRESS=127.0.0.1:" + admin,
		"RESTATE_BIND_ADDRESS=127.0.0.1:" + fabric,
		"RESTATE_ADVERTISED_ADDRESS=http://127.0.0.1:" + fabric,
	}, servers[0])
	if err != nil {
		return err
	}
	defer s.end(syscall.SIGTERM)
	c := newConn("tcp", "127.0.0.1:"+admin)
	defer c.close()
	body, _ := json.Marshal(map[string]any{"uri": "http://127.0.0.1:" + port})
	if _, err := until(b.ctx, "Restate", func() bool {
		select {
		case <-s.done:
			return true
		default:
		}
		status, _, err := c.do("POST", "/deployments", "Content-Type: application/json\r\n", body)
		return err == nil && status < 300
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, s.tail())
	}
	do := func(c *conn, n int) error {
		path := fmt.Sprintf("/Bench/a%d/Echo", n%1000)
		status, answer, err := c.do("POST", path, "Content-Type: application/json\r\n", []byte(argument))
		if err != nil {
			return err
		}
		if status != 200 || string(answer) != argument {
			return fmt.Errorf("%s: wrong answer %d %.200q", path, status, answer)
		}
		return nil
	}
	for _, clients := range []int{1, 16, 128} {
		f, err := load("tcp", "127.0.0.1:"+ingress, clients, b.length(2*time.Second), b.length(10*time.Second), 0, do)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.tail())
		}
		b.row(fmt.Sprintf("Restate %s, keyed object, %d clients", restateVersion, clients), f.String(), "", "")
	}
	b.row("resident: restate-server", mega(s.resident()), "", "")
	return os.RemoveAll(filepath.Join(dir, "data"))
}

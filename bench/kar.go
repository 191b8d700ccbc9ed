package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A mesh is KAR as a user runs it: a gateway process, and a component under
// kar run, each the real binary, with a state folder of their own.
type mesh struct {
	b       *bench
	dir     string // outputs
	state   string // KAR_STATE_DIR
	api     string // TCP address of the gateway
	side    string // TCP address of the component's sidecar
	appAddr string
	gateway *proc
	comp    *proc
}

// prefix is the path of the benchmark's app at the gateway.
const prefix = "/apps/bench"

// binary builds kar once, unless one was given.
func (b *bench) binary() (string, error) {
	if b.kar != "" {
		return b.kar, nil
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("not inside the module: %w", err)
	}
	out := filepath.Join(b.dir, "kar")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./cli/kar")
	cmd.Dir = string(root[:len(root)-1])
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building kar: %w\n%s", err, msg)
	}
	b.kar = out
	return out, nil
}

// mesh starts a gateway on an empty folder, without a component.
func (b *bench) mesh(name string) (*mesh, error) {
	if _, err := b.binary(); err != nil {
		return nil, err
	}
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	m := &mesh{b: b, dir: dir, state: filepath.Join(dir, "state"), api: "127.0.0.1:" + freePort()}
	if _, err := m.startGateway(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// env names folder and socket. A component that is told its gateway starts none
// by itself, so that a killed gateway comes back when the benchmark says so.
func (m *mesh) env() []string {
	socket := filepath.Join(m.dir, "s")
	return []string{"KAR_STATE_DIR=" + m.state, "KAR_SOCKET=" + socket, "KAR_GATEWAY=unix://" + socket}
}

// startGateway starts the gateway and returns how long it took until it was ready.
func (m *mesh) startGateway() (time.Duration, error) {
	t0 := time.Now()
	p, err := start(m.dir, "gateway", m.env(), m.b.kar, "gateway", "--listen", m.api)
	if err != nil {
		return 0, err
	}
	m.gateway = p
	ctx, cancel := context.WithTimeout(m.b.ctx, time.Minute)
	defer cancel()
	c := newConn("tcp", m.api)
	defer c.close()
	_, err = until(ctx, "the gateway", func() bool {
		select {
		case <-p.done:
			cancel()
		default:
		}
		status, _, err := c.do("GET", "/kar/ready", "", nil)
		return err == nil && status == 200
	})
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, p.tail())
	}
	return time.Since(t0), nil
}

// startComponent runs the bench app under kar run and waits until it answers a call.
func (m *mesh) startComponent() error {
	appPort, sidePort := freePort(), freePort()
	m.side, m.appAddr = "127.0.0.1:"+sidePort, "127.0.0.1:"+appPort
	p, err := start(m.dir, "component", m.env(), m.b.kar, "run", "-app", "bench", "-actors", "Bench", "-app_port", appPort, "-runtime_port", sidePort, "--", m.b.self, "app")
	if err != nil {
		return err
	}
	m.comp = p
	return m.answers(time.Minute)
}

// answers waits until a call through the gateway is answered.
func (m *mesh) answers(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(m.b.ctx, limit)
	defer cancel()
	c := newConn("tcp", m.api)
	defer c.close()
	probe := call(prefix, 1, "echo")
	var last error
	if _, err := until(ctx, "an answer", func() bool { last = probe(c, 0); return last == nil }); err != nil {
		return fmt.Errorf("%w (%w)\n%s%s", err, last, m.gateway.tail(), m.comp.tail())
	}
	return nil
}

func (m *mesh) close() {
	m.comp.end(syscall.SIGTERM)
	m.gateway.end(syscall.SIGTERM)
	m.comp, m.gateway = nil, nil
}

// late asks the app for what it has noted and empties its notes.
func (m *mesh) late() (lateness, error) {
	c := newConn("tcp", m.appAddr)
	defer c.close()
	var l lateness
	_, body, err := c.do("GET", "/bench/late", "", nil)
	if err == nil {
		err = json.Unmarshal(body, &l)
	}
	return l, err
}

// onDisk is the size of the state folder in bytes.
func (m *mesh) onDisk() int64 {
	var n int64
	filepath.WalkDir(m.state, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

// listening tells whether somebody accepts connections there.
func listening(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// fileSize is 0 for a file that is not there.
func fileSize(path string) int64 {
	i, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return i.Size()
}

package background

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// StatusPath and StopPath are served on the gateway's Unix socket only.
const (
	StatusPath = "/kar/local/status"
	StopPath   = "/kar/local/stop"
)

// Status is what a running gateway says about itself on its socket.
type Status struct {
	PID        int      `json:"pid"`
	Version    string   `json:"version"`
	Built      int64    `json:"built"` // modification time of its program, Unix seconds
	Background bool     `json:"background"`
	Idle       bool     `json:"idle"`    // no client, and no work left that could run
	Clients    int      `json:"clients"` // open connections, the asking one excluded
	Hosts      int      `json:"hosts"`
	Started    string   `json:"started"` // RFC 3339
	StateDir   string   `json:"stateDir"`
	Listen     []string `json:"listen"`
}

// Client is an HTTP client for a Unix socket; the host part of URLs is ignored.
func Client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
	}}
}

// Ask reads the status of the gateway behind a socket.
func Ask(ctx context.Context, socket string) (Status, error) {
	var s Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway"+StatusPath, nil)
	if err != nil {
		return s, err
	}
	req.Close = true
	resp, err := Client(socket).Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, errors.New("the gateway answers " + resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// askLimit is how long a gateway may take to say how it is. One that is stopped
// or starved for longer counts as absent; it still holds its folder, so that no
// second one comes up beside it.
const askLimit = 5 * time.Second

// Running finds the gateway of this place; ok is false when none lives.
func (p Place) Running(ctx context.Context) (socket string, s Status, ok bool) {
	sockets := []string{p.Socket}
	if n := p.ReadNote(); n.Socket != "" && n.Socket != p.Socket {
		sockets = []string{n.Socket, p.Socket}
	}
	for _, socket := range sockets {
		limited, cancel := context.WithTimeout(ctx, askLimit)
		s, err := Ask(limited, socket)
		cancel()
		if err == nil && (s.StateDir == "" || s.StateDir == p.Dir) {
			return socket, s, true
		}
	}
	return "", Status{}, false
}

// Absent tells a refusal, which a dead gateway gives, from a slow answer.
func Absent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}

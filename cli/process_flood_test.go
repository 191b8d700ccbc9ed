package cli

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFloodOfStrangers: with more connections than the gateway has file
// descriptors, each with a request that never ends, those who have a token and
// those on the socket are served as before.
func TestFloodOfStrangers(t *testing.T) {
	owner := newUser(t, "KAR_MESH_SECRET="+meshSecret)
	gw := &user{t: t, bin: "/bin/sh", state: owner.state, env: owner.env}
	p := gw.start("-c", `ulimit -n 300; exec "$0" gateway -v info --listen 127.0.0.1:0`, owner.bin)
	p.says("gateway ready")
	_, rest, _ := strings.Cut(p.errout.String(), "http://")
	address, _, _ := strings.Cut(rest, `"`)
	address = strings.TrimRight(strings.Fields(address)[0], `],`)
	token := newUser(t).token("--app", "a")
	put := func() {
		t.Helper()
		if status, code, text := ask(t, "PUT", "http://"+address+"/apps/a/kar/v1/actor/T/i/state/k", token, "1"); status != 201 && status != 204 {
			t.Errorf("with a token: %d %s %s", status, code, text)
		}
		if got := owner.kar("get", "-app", "a", "-t", "T", "-i", "i"); got.code != 0 {
			t.Errorf("over the socket: %+v", got)
		}
	}
	put()
	http.DefaultClient.CloseIdleConnections()
	for range 400 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "POST /apps/a/kar/v1/service/s/call/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
	}
	put() // a new connection
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + "/kar/ready")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("ready: %d", resp.StatusCode)
	}
	if log := p.errout.String(); !strings.Contains(log, "the door is crowded") || strings.Contains(log, "too many open files") {
		t.Errorf("log: %s", log)
	}
}

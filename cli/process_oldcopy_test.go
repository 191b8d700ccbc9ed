package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestComponentOutlivesTheState: a component keeps running while an older copy of the
// state folder is put back, and while an empty one takes its place: its work goes on.
func TestComponentOutlivesTheState(t *testing.T) {
	u, dir := newUser(t), t.TempDir()
	data, copied := filepath.Join(u.state, "data"), filepath.Join(t.TempDir(), "data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	client := u.with("KAR_GATEWAY=http://" + address) // else it starts a gateway itself
	var gateway *process
	up := func() {
		gateway = u.start("gateway", "--listen", address)
		gateway.says("listen")
	}
	down := func() {
		send(t, syscall.SIGTERM, gateway.cmd.Process.Pid)
		gateway.wait()
	}
	calls := func(when string) {
		t.Helper()
		for n := range 3 {
			if got := client.kar("invoke", "-app", "a", "T", fmt.Sprintf("void-%d", n), "void"); got.code != 0 {
				t.Fatalf("%s: %+v\ngateway:\n%s", when, got, gateway.errout)
			}
		}
	}
	up()
	sidecar, _, _ := client.component(dir)
	calls("at first")
	down()
	if _, err := os.Stat(data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	for range 3 { // each start is another term
		up()
		calls("later")
		down()
	}
	swap := func(from string) {
		t.Helper()
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		if from != "" {
			if err := os.Rename(from, data); err != nil {
				t.Fatal(err)
			}
		}
		up()
	}
	swap(copied)
	calls("after an older copy was put back")
	if !strings.Contains(gateway.errout.String(), "later term") {
		t.Errorf("the gateway does not say it:\n%s", gateway.errout)
	}
	down()
	swap("")
	calls("after an empty folder took its place")
	select {
	case err := <-sidecar.done:
		t.Errorf("the component ended: %v\n%s", err, sidecar.errout)
	default:
	}
	down()
}

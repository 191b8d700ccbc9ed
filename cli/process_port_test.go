package cli

import (
	"net"
	goruntime "runtime"
	"testing"
)

// TestAppPortTakenMeanwhile: the command survives not to get its port, as those that
// reload do. Whoever has the port gets no calls of the component.
func TestAppPortTakenMeanwhile(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("who listens is known on Linux only")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = l.Close()
	u := newUser(t, "KAR_GATEWAY="+newStandIn(t).URL)
	p := u.start("run", "-app", "a", "-service", "s", "-app_port", port, "--", "sh", "-c", "echo up; exec sleep 60")
	p.says("up")
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.says("which is not of the component")
}

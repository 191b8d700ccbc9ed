package host

import (
	"context"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhoGoesOnListening: what an app does with a connection that says nothing tells
// whether it lives.
func TestWhoGoesOnListening(t *testing.T) {
	for name, c := range map[string]struct {
		app  func(net.Listener)
		want bool
	}{
		"closes it": {func(l net.Listener) {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
		}, true},
		"answers it": {func(l net.Listener) {
			if conn, err := l.Accept(); err == nil {
				_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
			}
		}, true},
		"is busy":    {func(net.Listener) {}, true},
		"is gone":    {func(l net.Listener) { _ = l.Close() }, false},
		"just going": {waitAndClose, false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); c.app(l) }()
		if name == "is gone" {
			<-done
		}
		if got := listensOn(context.Background(), l.Addr().String()); got != c.want {
			t.Errorf("who %s: %v", name, got)
		}
		<-done
		_ = l.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if listensOn(ctx, "127.0.0.1:1") {
		t.Error("believed at the end")
	}
}

// waitAndClose closes the listener once a connection waits in it, as the end of its
// process does.
func waitAndClose(l net.Listener) {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err != nil || n > 0
	})
	_ = l.Close()
}

package guard

import (
	"net"
	"testing"
)

// Who listens outside of the tree is seen, as a container engine does for its client.
func TestListensOutside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, _ := startTree(t, tree)
	port := l.Addr().(*net.TCPAddr).Port
	if !c.ListensOutside(port) {
		t.Error("the listener of another tree was not seen")
	}
	_ = l.Close()
	if c.ListensOutside(port) {
		t.Error("nobody listens, and somebody was seen")
	}
}

package guard

import (
	"net"
	"os"
	"strconv"
	"testing"
)

// TestAcceptedSockets: the end of a connection that another process holds is found,
// of listeners for one address and for any, by both ways.
func TestAcceptedSockets(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		ours, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		theirs, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		f, err := theirs.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
		if err != nil {
			t.Fatal(err)
		}
		from := ours.LocalAddr().(*net.TCPAddr).Port
		for name, find := range map[string]func(int, int) []string{"asked": accepted, "read": acceptedInTable} {
			if got := find(port, from); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s: got %q, want %q", address, name, got, want)
			}
		}
		if s, err := askKernel(port, from); err != nil || "socket:["+strconv.Itoa(int(s.inode))+"]" != want {
			t.Errorf("%s: the kernel says %+v, %v", address, s, err)
		}
		if got := accepted(port, port); len(got) != 0 {
			t.Errorf("%s: a connection that does not exist is %q", address, got)
		}
		for n := range 3 {
			if waiting, most, known := Backlog(port); !known || waiting != n || most < 3 {
				t.Errorf("%s: the backlog of %d is said to be %d of %d, %v", address, n, waiting, most, known)
			}
			waits, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				t.Fatal(err)
			}
			defer waits.Close()
		}
	}
}

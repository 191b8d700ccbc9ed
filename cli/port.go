package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/karmesh/kar/runtime"
)

// listen opens a TCP port; a taken one is CodePortInUse.
func listen(address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, runtime.Errorf(runtime.CodePortInUse, "%s is taken by another process", address)
	case errors.Is(err, syscall.EACCES):
		return nil, runtime.Errorf(runtime.CodePortInUse, "%s may not be used by this user", address)
	}
	return nil, runtime.Errorf(runtime.CodeBadFlag, "cannot listen on %s: %v", address, rootCause(err))
}

// appPort is the port for a command that was not told one: the wanted one, or a
// free one when somebody listens there, on whatever interface, or another
// `kar run` of this user has given it to a command that does not listen yet.
// A lock that is not nil keeps the wanted port until it is closed.
func appPort(wanted int) (port int, lock io.Closer, err error) {
	lock, mine := reserve(wanted)
	if mine && free("127.0.0.1", wanted) && free("", wanted) {
		return wanted, lock, nil
	}
	if lock != nil {
		_ = lock.Close()
	}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil, nil
}

// reserve takes a port among the processes of this user. It is false when
// another one holds it. The port counts as free, with a nil lock, when the
// temporary folder cannot be used: then only listening tells.
func reserve(port int) (lock io.Closer, mine bool) {
	name := filepath.Join(os.TempDir(), fmt.Sprintf("kar-%d-port-%d.lock", os.Getuid(), port))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, true
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, !errors.Is(err, syscall.EWOULDBLOCK)
	}
	return f, true
}

func free(ip string, port int) bool {
	l, err := listen(net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

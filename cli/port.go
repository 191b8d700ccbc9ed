package cli

import (
	"context"
	"errors"
	"net"
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

// appPort is the port for a command that was not told one: 8080, or a free one
// when somebody listens there, on whatever interface.
func appPort(wanted int) (int, error) {
	if free("127.0.0.1", wanted) && free("", wanted) {
		return wanted, nil
	}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func free(ip string, port int) bool {
	l, err := listen(net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

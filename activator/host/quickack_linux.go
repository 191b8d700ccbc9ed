package host

import (
	"net"
	"syscall"
)

// quickAck has the kernel acknowledge at once what has come. Many simple servers
// send header and body in two writes without TCP_NODELAY; the second then waits for
// the acknowledgement of the first, which is otherwise delayed by 40 ms.
func quickAck(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) // only slower without
	})
}

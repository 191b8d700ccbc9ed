package guard

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// accepted is the component's end of the connection on 127.0.0.1 from a port to the
// component's, as /proc/PID/fd names it. The kernel is asked for this one socket,
// which does not depend on how many there are; where it cannot be asked, its table
// is read.
func accepted(port, from int) (sockets []string) {
	s, err := askKernel(port, from)
	if err != nil {
		return acceptedInTable(port, from)
	}
	if s.inode == 0 || s.state == tcpListen {
		return nil
	}
	return []string{"socket:[" + strconv.FormatUint(uint64(s.inode), 10) + "]"}
}

// Backlog is how many connections to a port of 127.0.0.1 nobody has accepted yet, and
// how many there may be; known is false when the kernel does not say.
func Backlog(port int) (waiting, most int, known bool) {
	s, err := askKernel(port, 0)
	if err != nil || s.state != tcpListen {
		return 0, 0, false
	}
	return int(s.received), int(s.sent), true
}

// A socket is what the kernel says of one. For one that listens, received is how many
// connections wait and sent how many may.
type socket struct {
	state          byte
	received, sent uint32
	inode          uint32 // 0 when no process has it
}

// The layout of struct inet_diag_req_v2 and inet_diag_msg, behind the header.
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagPorts   = unix.SizeofNlMsghdr + 8
	diagState   = unix.SizeofNlMsghdr + 1
	diagQueues  = unix.SizeofNlMsghdr + 56
	diagInode   = unix.SizeofNlMsghdr + 68
	diagAnswer  = unix.SizeofNlMsghdr + 72
	tcpListen   = 10
)

// askKernel finds the socket that has what comes to the port from another: one end of
// a connection, or who listens.
func askKernel(port, from int) (s socket, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return s, err
	}
	defer func() { _ = unix.Close(fd) }()
	q := make([]byte, diagRequest)
	order := binary.NativeEndian
	order.PutUint32(q, diagRequest)
	order.PutUint16(q[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(q[6:], unix.NLM_F_REQUEST)
	q[unix.SizeofNlMsghdr], q[unix.SizeofNlMsghdr+1] = unix.AF_INET, unix.IPPROTO_TCP
	order.PutUint32(q[unix.SizeofNlMsghdr+4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(q[diagPorts:], uint16(port))
	binary.BigEndian.PutUint16(q[diagPorts+2:], uint16(from))
	copy(q[diagPorts+4:], []byte{127, 0, 0, 1})
	copy(q[diagPorts+20:], []byte{127, 0, 0, 1})
	order.PutUint64(q[diagPorts+40:], ^uint64(0)) // without a cookie
	if err := unix.Sendto(fd, q, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return s, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0) // it is there: the kernel answers while it is asked
	if err != nil {
		return s, err
	}
	switch {
	case n >= unix.SizeofNlMsghdr+4 && order.Uint16(answer[4:]) == unix.NLMSG_ERROR:
		// ENOENT is also the answer of a kernel that has not this question for TCP.
		return s, syscall.Errno(-int32(order.Uint32(answer[unix.SizeofNlMsghdr:])))
	case n < diagAnswer:
		return s, unix.EBADMSG
	}
	return socket{
		state: answer[diagState], inode: order.Uint32(answer[diagInode:]),
		received: order.Uint32(answer[diagQueues:]), sent: order.Uint32(answer[diagQueues+4:]),
	}, nil
}

func acceptedInTable(port, from int) (sockets []string) {
	mine, theirs := ":"+hexPort(port), ":"+hexPort(from)
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) >= 10 && strings.HasSuffix(f[1], mine) && strings.HasSuffix(f[2], theirs) && f[9] != "0" {
				sockets = append(sockets, "socket:["+f[9]+"]")
			}
		}
	}
	return sockets
}

func hexPort(port int) string {
	s := strings.ToUpper(strconv.FormatInt(int64(port), 16))
	return strings.Repeat("0", 4-len(s)) + s
}

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
	inode, err := inodeOf(port, from)
	if err != nil {
		return acceptedInTable(port, from)
	}
	if inode == 0 {
		return nil
	}
	return []string{"socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"}
}

// The layout of struct inet_diag_req_v2 and inet_diag_msg, behind the header.
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagPorts   = unix.SizeofNlMsghdr + 8
	diagState   = unix.SizeofNlMsghdr + 1
	diagInode   = unix.SizeofNlMsghdr + 68
	diagAnswer  = unix.SizeofNlMsghdr + 72
	tcpListen   = 10
)

// inodeOf is 0 when there is no such connection.
func inodeOf(port, from int) (inode uint32, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
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
		return 0, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0) // it is there: the kernel answers while it is asked
	if err != nil {
		return 0, err
	}
	switch {
	case n >= unix.SizeofNlMsghdr+4 && order.Uint16(answer[4:]) == unix.NLMSG_ERROR:
		// ENOENT is also the answer of a kernel that has not this question for TCP.
		return 0, syscall.Errno(-int32(order.Uint32(answer[unix.SizeofNlMsghdr:])))
	case n < diagAnswer:
		return 0, unix.EBADMSG
	case answer[diagState] == tcpListen:
		return 0, nil
	}
	return order.Uint32(answer[diagInode:]), nil
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

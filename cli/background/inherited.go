package background

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is where a background gateway says that it is ready.
const readyFD = 3

// Detach is called first by a background gateway: it outlives whoever has started it, so
// it lets go of the open files that it was given, of which a lock may depend, and of a low
// priority, where it may. Nothing that this process has opened itself is given on to
// programs, which tells them apart.
func Detach() {
	for _, fd := range openFDs() {
		if fd <= readyFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	if syscall.Getpgrp() == os.Getpid() { // the group, for a priority is a thread's
		_ = syscall.Setpriority(syscall.PRIO_PGRP, 0, 0)
	}
}

// openFDs lists at least those that are open, up to a number that a shell gives.
func openFDs() (fds []int) {
	if dir, err := os.Open("/dev/fd"); err == nil {
		defer dir.Close()
		if names, err := dir.Readdirnames(-1); err == nil && len(names) > 0 {
			for _, name := range names {
				if fd, err := strconv.Atoi(name); err == nil {
					fds = append(fds, fd)
				}
			}
			return fds
		}
	}
	for fd := range 1024 {
		fds = append(fds, fd)
	}
	return fds
}

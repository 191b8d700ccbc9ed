package guard

import (
	"golang.org/x/sys/unix"
)

// foregroundGroup is this process's group when it owns the terminal on stdin, else 0.
func foregroundGroup() int {
	fg, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil || fg != unix.Getpgrp() {
		return 0
	}
	return fg
}

// giveTerminal makes group the foreground group of the terminal on stdin. The
// caller ignores SIGTTOU, which the kernel sends to background groups that try this.
func giveTerminal(group int) {
	_ = unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, group)
}

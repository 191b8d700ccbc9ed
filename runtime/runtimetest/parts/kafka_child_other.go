//go:build !linux

package parts

import "syscall"

// endWithParent can do nothing here: a process that is killed leaves its
// servers behind.
func endWithParent() *syscall.SysProcAttr { return nil }

func awaitStopped(int) error { return nil }

//go:build !linux

package parts

import "syscall"

// redisDiesWithUs: nothing does that here; tests end their servers themselves.
func redisDiesWithUs() *syscall.SysProcAttr { return nil }

//go:build !linux

package mesh_test

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }

package mesh_test

import "syscall"

// dieWithUs has the kernel end a process with the test that started it, also
// when the test ends without its cleanup.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

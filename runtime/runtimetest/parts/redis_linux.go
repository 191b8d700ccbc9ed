package parts

import "syscall"

// redisDiesWithUs has the kernel kill the server when we are gone.
func redisDiesWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

package tunnel

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since the machine started, with the time it slept:
// a lease runs on while the machine is suspended.
func BootTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Duration(time.Now().UnixNano()) // kernels before 2.6.39
	}
	return time.Duration(t.Nano())
}

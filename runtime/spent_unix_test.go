//go:build unix

package runtime

import (
	"syscall"
	"time"
)

// A stopwatch measures the processor time of this process. Unlike the time of a
// clock it does not grow with what else the machine does.
type stopwatch time.Duration

func startWatch() stopwatch { return stopwatch(processorTime()) }

func (w stopwatch) spent() time.Duration { return processorTime() - time.Duration(w) }

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

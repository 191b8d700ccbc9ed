//go:build !unix

package runtime

import "time"

type stopwatch time.Time

func startWatch() stopwatch { return stopwatch(time.Now()) }

func (w stopwatch) spent() time.Duration { return time.Since(time.Time(w)) }

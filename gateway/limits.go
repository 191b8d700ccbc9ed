package gateway

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// maxKey is the longest Idempotency-Key in bytes.
const maxKey = 255

// limits puts what the Kar-… headers and the Idempotency-Key say into q. Both
// Kar-Timeout and Kar-Delay count from the arrival of the request.
func (x *exchange) limits(q *runtime.Request) error {
	if err := x.idempotencyKey(q); err != nil {
		return err
	}
	now := x.cfg.Now()
	timeout, err := x.duration("Kar-Timeout", 1)
	if err != nil {
		return err
	}
	if timeout > 0 {
		q.Deadline = now.Add(timeout).UnixMilli()
	}
	if err := x.notBefore(q, now); err != nil {
		return err
	}
	if q.Kind != runtime.Call && q.Kind != runtime.Promise {
		return nil
	}
	return x.callLimits(q)
}

func (x *exchange) idempotencyKey(q *runtime.Request) error {
	values := x.r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return nil
	}
	q.Key = values[0]
	if q.Key == "" || len(q.Key) > maxKey || len(values) > 1 {
		return runtime.Errorf(runtime.CodeBadRequest, "Idempotency-Key must be given once and have 1 to %d bytes", maxKey)
	}
	return nil
}

func (x *exchange) notBefore(q *runtime.Request, now time.Time) error {
	delay, err := x.duration("Kar-Delay", 0)
	if err != nil {
		return err
	}
	at := x.r.Header["Kar-Not-Before"]
	if len(at) == 0 {
		if delay > 0 {
			q.NotBefore = now.Add(delay).UnixMilli()
		}
		return nil
	}
	if delay > 0 {
		return runtime.Errorf(runtime.CodeBadRequest, "Kar-Delay and Kar-Not-Before exclude each other")
	}
	t, err := time.Parse(time.RFC3339, at[0])
	if err != nil || t.UTC().Year() > 9999 {
		return runtime.Errorf(runtime.CodeBadRequest, "Kar-Not-Before must be a time such as 2030-01-31T12:00:00Z, not %q", clip(at[0], 60))
	}
	q.NotBefore = max(t.UnixMilli(), 0)
	return nil
}

// callLimits are those that end only calls, never tells: KAR 1.x's options,
// which our own commands and sidecar send along.
func (x *exchange) callLimits(q *runtime.Request) error {
	noHost, err := x.duration("Kar-Missing-Component-Timeout", 0)
	if err != nil {
		return err
	}
	busy, err := x.duration("Kar-Actor-Busy-Timeout", 0)
	if err != nil {
		return err
	}
	q.NoHost, q.Busy = roundUp(noHost), roundUp(busy)
	if v := x.r.Header["Kar-Cancel-With-Caller"]; len(v) > 0 {
		on, err := strconv.ParseBool(v[0])
		if err != nil {
			return runtime.Errorf(runtime.CodeBadRequest, "Kar-Cancel-With-Caller must be true or false, not %q", clip(v[0], 20))
		}
		q.CancelWithCaller = on
	}
	return nil
}

// roundUp is d in milliseconds; a positive duration is never 0, which would mean no limit.
func roundUp(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// duration reads a header that holds a Go duration or a number of seconds; 0 when absent.
func (x *exchange) duration(name string, least time.Duration) (time.Duration, error) {
	values := x.r.Header[name]
	if len(values) == 0 {
		return 0, nil
	}
	d, ok := parseDuration(strings.TrimSpace(values[0]))
	if !ok || d < least || len(values) > 1 {
		return 0, runtime.Errorf(runtime.CodeBadRequest, "%s must be a duration such as 30s or 1m30s, or a number of seconds, and at most a hundred years, not %q", name, clip(values[0], 40))
	}
	return d, nil
}

// maxDuration keeps sums with the time of day far away from overflow: a hundred years.
const maxDuration = 100 * 365 * 24 * time.Hour

func parseDuration(s string) (time.Duration, bool) {
	d, err := time.ParseDuration(s)
	if err != nil {
		seconds, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(seconds) || math.Abs(seconds) > maxDuration.Seconds() {
			return 0, false
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	return d, d <= maxDuration
}

package kafka

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/rcrowley/go-metrics"
)

// Kafka throttles a client that goes beyond a quota: it answers at once, says how long to
// wait, and takes nothing more from that connection before. What it asks for has no bound,
// and goes on when the quota is gone; sarama would sleep it out in the next request, which
// then nobody can end. So it is waited for here, and only for as long as leases bear. A
// connection that Kafka holds up for longer is given up.

// A throttle is what Kafka has asked for on one connection. Sarama tells it to its
// registry of metrics, whatever the request was, before it hands on the answer.
type throttle struct {
	noMetrics
	until atomic.Pointer[time.Time]
	tell  func(wait time.Duration)
}

type throttleTime struct {
	metrics.NilHistogram
	of *throttle
}

func (t *throttle) GetOrRegister(name string, metric any) any {
	if strings.HasPrefix(name, "throttle-time") {
		return throttleTime{of: t}
	}
	return t.noMetrics.GetOrRegister(name, metric)
}

func (t throttleTime) Update(ms int64) {
	wait := time.Duration(ms) * time.Millisecond
	until := time.Now().Add(wait)
	t.of.until.Store(&until)
	t.of.tell(wait)
}

// throttled is how long to wait before more is sent to the broker of a connection, and
// whether that one is of use then.
func (c *Cluster) throttled(conn *conn) (wait time.Duration, keep bool) {
	until := conn.throttle.until.Load()
	if until == nil {
		c.quota.free()
		return 0, true
	}
	wait = time.Until(*until)
	if wait <= 0 {
		conn.throttle.until.Store(nil)
		return 0, true
	}
	return min(wait, c.cfg.ThrottleLimit), wait <= c.cfg.ThrottleLimit
}

// rest waits, for as long as anybody cares.
func (c *Cluster) rest(ctx context.Context, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	case <-c.life.Done():
	}
}

const (
	// Kafka throttles no longer when all answers are free for so long: it judges by the
	// last ten seconds or so.
	throttledFor = 5 * time.Second
	quotaSaid    = time.Minute // between two lines about it
)

// A quota is what is said of being throttled.
type quota struct {
	c  *Cluster
	on atomic.Bool

	mu   sync.Mutex
	at   time.Time     // of the last answer that asks for a wait
	wait time.Duration // which is this
	addr string
	said time.Time
	told bool // that it is so, and not yet that it is over
}

// asked notes that a broker wants this gateway to wait.
func (q *quota) asked(addr string, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.on.Store(true)
	q.at, q.wait, q.addr = time.Now(), wait, addr
	if q.said.IsZero() || time.Since(q.said) > quotaSaid {
		q.said, q.told = time.Now(), true
		q.c.cfg.Logger.Warn("Kafka throttles this gateway (a quota), so that it works slowly. "+q.remedy(), "client", q.c.cfg.ClientID, "broker", addr, "wait", wait, "waits at most", q.c.cfg.ThrottleLimit)
	}
}

// free notes an answer that asks for no wait.
func (q *quota) free() {
	if !q.on.Load() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.at) < throttledFor {
		return
	}
	if q.on.Store(false); q.told {
		q.told = false
		q.c.cfg.Logger.Info("Kafka throttles this gateway no longer")
	}
}

// remedy is what to type to see the quota.
func (q *quota) remedy() string {
	return fmt.Sprintf("Raise the quota, which this shows: kafka-configs.sh --bootstrap-server %s --describe --entity-type clients (or users, or both)", q.c.cfg.Brokers[0])
}

// Throttled is not nil while Kafka asks for longer waits than the gateway can make: a
// quota is far too low.
func (c *Cluster) Throttled() error {
	q := &c.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.on.Load() || time.Since(q.at) > throttledFor || q.wait <= c.cfg.ThrottleLimit {
		return nil
	}
	return runtime.Errorf(runtime.CodeKafkaQuota, "Kafka throttles this gateway (a quota of client id %q or of its user): the broker at %s asks it to wait for %v. %s", c.cfg.ClientID, q.addr, q.wait.Round(time.Millisecond), q.remedy())
}

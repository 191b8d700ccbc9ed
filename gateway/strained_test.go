package gateway

import (
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Health says why a gateway works badly; it stays ready.
func TestHealthOfAStrainedGateway(t *testing.T) {
	var strained atomic.Bool
	w := newWorld(t, func(cfg *Config) {
		cfg.Strained = func() error {
			if strained.Load() {
				return runtime.Errorf(runtime.CodeKafkaQuota, "Kafka throttles it")
			}
			return nil
		}
	})
	w.expect("GET", "//kar/health", "", 200, "OK\n")
	strained.Store(true)
	if status, _, h := w.send("GET", "//kar/health", ""); status != 503 || h.Get("Kar-Error") != "kafka_quota" {
		t.Errorf("health: %d %s", status, h.Get("Kar-Error"))
	}
	w.expect("GET", "//kar/ready", "", 200, "OK\n")
	strained.Store(false)
	w.expect("GET", "//kar/health", "", 200, "OK\n")
}

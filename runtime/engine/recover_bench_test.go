package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// BenchmarkRecover is how long a partition takes to come back after that many requests.
func BenchmarkRecover(b *testing.B) {
	const requests = 200_000
	dir := b.TempDir()
	start := func() (*embedded.Disk, *engine.Mesh) {
		d, err := embedded.Open(dir, embedded.Options{Mesh: "bench", Partitions: 1})
		if err != nil {
			b.Fatal(err)
		}
		m, err := engine.Open(b.Context(), engine.Config{Mesh: "bench", Logs: d.Log, Store: d.Store()})
		if err != nil {
			b.Fatal(err)
		}
		return d, m
	}
	d, m := start()
	h := &inline{m, "b", &runtime.Outcome{Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: []byte(`{"value":1}`)}}
	if err := m.HostUp(runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}, runtime.JoinAnswer{}, h); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 64)
	for c := range 64 {
		go func() {
			for i := range requests / 64 {
				r := &runtime.Request{Target: runtime.Target{App: "app", Type: "A", ID: fmt.Sprint(c*1000 + i%1000)}, Method: "POST", Path: "/m", Body: []byte(`[1,2,3]`)}
				if _, err := m.Call(b.Context(), r); err != nil {
					done <- err
					return
				}
				m.Release(r.Target.App, r.ID)
			}
			done <- nil
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("log %d bytes", m.Stats().LogBytes)
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	_ = d.Close()
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		began := time.Now()
		d, m := start()
		b.ReportMetric(time.Since(began).Seconds()*1000, "ms/recovery")
		b.ReportMetric(m.Stats().RecoverySeconds*1000, "ms/fold")
		b.StopTimer()
		_ = m.Close()
		_ = d.Close()
		b.StartTimer()
	}
}

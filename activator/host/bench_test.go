package host_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// cpu is what this process has used: both ends, the app and the caller.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func echoApp() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/kar+json")
		_, _ = w.Write(b)
	})
}

// BenchmarkTunnelRoundTrip: gateway end, host end and a Go app over loopback,
// from Link.Send to Owners.Answered. No log, no API.
func BenchmarkTunnelRoundTrip(b *testing.B) {
	for _, clients := range []int{1, 128} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { roundTrips(b, clients, 200) })
	}
}

func roundTrips(b *testing.B, clients, size int) {
	r := start(b, echoApp(), overUnix)
	var waiting sync.Map
	r.owners.onAnswer = func(a runtime.Answer) {
		if c, ok := waiting.LoadAndDelete(a.Attempt.ID); ok {
			c.(chan struct{}) <- struct{}{}
		}
		r.owners.send(&runtime.Taken{Attempts: []runtime.Attempt{a.Attempt}})
	}
	wait(b, "join", r.owners.ups)
	wait(b, "ready", r.host.Ready())
	payload := strings.Repeat("x", size)
	var next atomic.Int64
	call := func(done chan struct{}) {
		n := int(next.Add(1))
		m := actorCall(n, fmt.Sprint("a", n%1000), "/m", payload)
		waiting.Store(m.Attempt.ID, done)
		r.owners.send(m)
		<-done
	}
	warm := make(chan struct{}, 1)
	for range 1000 {
		call(warm)
	}
	b.ReportAllocs()
	b.ResetTimer()
	began, before := time.Now(), cpu(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			done := make(chan struct{}, 1)
			for left.Add(-1) >= 0 {
				call(done)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "calls/s")
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
	b.StopTimer()
}

// BenchmarkAPIRoundTrip: app → sidecar handler → tunnel → gateway API → back.
func BenchmarkAPIRoundTrip(b *testing.B) {
	for _, clients := range []int{1, 128} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := start(b, echoApp(), overUnix)
			r.api = echoApp()
			wait(b, "ready", r.host.Ready())
			side := httptest.NewServer(r.host.Handler())
			defer side.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			b.ResetTimer()
			began, before := time.Now(), cpu(b)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						res, err := client.Post(side.URL+"/kar/v1/actor/T/1/call/m", "application/kar+json", strings.NewReader("[1]"))
						if err != nil {
							b.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "calls/s")
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

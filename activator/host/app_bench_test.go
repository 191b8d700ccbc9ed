package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// plainHTTP is net/http's client behind the same interface, for comparison.
type plainHTTP struct {
	base   string
	client *http.Transport
}

func (p *plainHTTP) do(ctx context.Context, r *appRequest) (*runtime.Outcome, error) {
	q, err := http.NewRequestWithContext(ctx, r.method, p.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		q.Header[k] = v
	}
	res, err := p.client.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return outcomeOf(res, r)
}

func (p *plainHTTP) close() { p.client.CloseIdleConnections() }

// cpu is what this process has used; it says more than the clock on a busy machine.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppClient is the hop to the app: the lean client against net/http's.
func BenchmarkAppClient(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/kar+json")
		_, _ = w.Write(body)
	}))
	defer s.Close()
	base, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		app  app
	}{
		{"lean", newHTTP1(base, nil, func(string) {})},
		{"net-http", &plainHTTP{s.URL, &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 200}}},
	} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/clients=%d", c.name, clients), func(b *testing.B) {
				r := appRequest{
					method: "POST", path: "/kar/impl/v1/actor/T/1/m?session=f:r", limit: 1 << 20, body: bytes.Repeat([]byte("x"), 200),
					header: runtime.Header{"Content-Type": {"application/kar+json"}, "Kar-Request-Id": {"00000000000000000000000000"}, "Kar-Attempt": {"1"}},
				}
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				before := cpu(b)
				for range clients {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							q := r
							if _, err := c.app.do(context.Background(), &q); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
			})
		}
		c.app.close()
	}
}

package host

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/url"
	goruntime "runtime"
	"slices"
	"testing"
	"time"
)

// TestTwoWritesAreNotSlow: an app that writes header and body apart, with Nagle's
// algorithm, as Python's http.server does.
func TestTwoWritesAreNotSlow(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetNoDelay(false)
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"))
					_, _ = c.Write([]byte("ok"))
				}
			}()
		}
	}()
	base, _ := url.Parse("http://" + l.Addr().String())
	a := newHTTP1(base, nil, func(string) {})
	defer a.close()
	var took []time.Duration
	for range 30 {
		began := time.Now()
		if _, err := a.do(context.Background(), &appRequest{method: "POST", path: "/", limit: 100}); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if took[len(took)/2] > 30*time.Millisecond {
		t.Errorf("half of the exchanges took over %s", took[len(took)/2])
	}
}

package mesh_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// oddAnswers are what components send although HTTP does not have it so. Of
// those that are whole the caller gets what the head says and nobody else
// notices anything. What breaks off is no answer: the app is stopped, since
// nothing else proves that the run has ended, and the request runs again.
func oddAnswers() map[string]struct {
	answer string // %d is the length of the body, %s the body; what follows | comes a little later
	broken bool
	status int
} {
	type odd = struct {
		answer string
		broken bool
		status int
	}
	return map[string]odd{
		"odd204WithBody":    {"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n|%s", false, 204},
		"odd204WithoutSize": {"HTTP/1.1 204 No Content\r\n\r\n|%[2]s", false, 204},
		"odd204AndAnother":  {"HTTP/1.1 204 No Content\r\n\r\n|HTTP/1.1 200 OK\r\nContent-Type: application/kar+json\r\nContent-Length: 18\r\n\r\n{\"value\":\"others\"}", false, 204},
		"oddMoreThanSaid":   {"HTTP/1.1 200 OK\r\nContent-Type: application/kar+json\r\nContent-Length: %d\r\n\r\n%s|HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers", false, 200},
		"oddInterim":        {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/kar+json\r\nContent-Length: %d\r\n\r\n%s", false, 200},
		"oddLessThanSaid":   {"HTTP/1.1 200 OK\r\nContent-Length: 9%d\r\n\r\n%s", true, 200},
		"oddHalfAChunk":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%[2]s", true, 200},
		"oddHalfAHead":      {"HTTP/1.1 200 OK\r\nContent-Le", true, 200},
		"oddNothing":        {"", true, 200},
	}
}

// odd answers in one of these ways. What would stop the process does so once:
// the second attempt is answered well.
func (c *played) odd(w http.ResponseWriter, r *http.Request, method, body string) {
	answer := oddAnswers()[method]
	if answer.broken && r.Header.Get("Kar-Attempt") != "1" {
		w.Header().Set("Content-Type", "application/kar+json")
		fmt.Fprint(w, body)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	text := answer.answer
	if strings.Contains(text, "%") {
		text = strings.TrimSuffix(fmt.Sprintf(text+"%[3]s", len(body), body, "\x00"), "\x00")
	}
	for i, part := range strings.Split(text, "|") {
		if i > 0 {
			time.Sleep(300 * time.Microsecond) // as servers do that send twice
		}
		_, _ = conn.Write([]byte(part))
	}
	if answer.broken {
		_ = conn.Close()
		return
	}
	_ = c.server.Serve(&oneConn{conn: conn}) // as any server would go on on it
}

// A oneConn is a listener that has one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	err = net.ErrClosed
	l.once.Do(func() { c, err = l.conn, nil })
	return c, err
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// TestMeshSoakOddHTTP: beside a load of which each answer is compared, methods
// answer in ways that HTTP does not know.
func TestMeshSoakOddHTTP(t *testing.T) {
	soak(t)
	m, w := newMesh(t, options{}), newWitness(t)
	m.three()
	c := m.component(w, "")
	l := m.load(w, loadOptions{clients: 12, ms: 1, pause: 5 * time.Millisecond})
	l.progress("before", 20)
	call := func(method string, n int) (int, string) {
		t.Helper()
		key := fmt.Sprintf("%s-%d", method, n)
		status, _, text, err := send(&http.Client{Timeout: time.Minute}, http.MethodPost, m.urls()[n%3]+"/apps/a/kar/v1/actor/T/"+key+"/call/"+method, nil, fmt.Sprintf("[%q,1]", key))
		must(t, err)
		return status, text
	}
	for method, answer := range oddAnswers() {
		if answer.broken {
			continue
		}
		for n := range 30 {
			key := fmt.Sprintf("%s-%d", method, n)
			want := `{"value":"` + key + `"}`
			if answer.status == http.StatusNoContent {
				want = ""
			}
			if status, text := call(method, n); status != answer.status || text != want || w.of(key) != 1 {
				t.Errorf("%s: %d %q after %d runs", key, status, text, w.of(key))
			}
		}
		l.progress(method, 10)
	}
	c.untouched()
	l.verify()

	// From here on the component dies again and again.
	l = m.load(w, loadOptions{name: "b", clients: 8, ms: 1, attempts: true})
	for method, answer := range oddAnswers() {
		if !answer.broken {
			continue
		}
		for n := range 3 {
			key := fmt.Sprintf("%s-%d", method, n)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if status, text := call(method, n); status != answer.status || text != `{"value":"`+key+`"}` || w.of(key) != 2 {
					t.Errorf("%s: %d %q after %d runs", key, status, text, w.of(key))
				}
			}()
			c.code(20 * time.Second)
			c = m.component(w, "")
			<-done
		}
		l.progress(method, 5)
	}
	l.verify()
}

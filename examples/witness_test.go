package examples_test

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A witness stands outside of KAR: each step of an account holds a connection
// to it open while it runs. The kernel closes the connections of a process
// that dies, before anybody can know that it is dead, so a connection that is
// still open when the next step of the same account begins is an overlap.
type witness struct {
	t    *testing.T
	l    net.Listener
	port string
	wg   sync.WaitGroup

	mu       sync.Mutex
	running  map[string]*net.TCPConn // by account
	steps    int
	overlaps []string
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{t: t, l: l, running: map[string]*net.TCPConn{}}
	_, w.port, _ = net.SplitHostPort(l.Addr().String())
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Add(1)
			go func() {
				defer w.wg.Done()
				w.watch(c.(*net.TCPConn))
			}()
		}
	}()
	return w
}

func (w *witness) watch(c *net.TCPConn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		c.Close()
		return
	}
	account, _, _ := strings.Cut(line, " ")
	w.begin(account, strings.TrimSpace(line), c)
	c.Write([]byte("go\n"))
}

// begin notes that a step of the account runs from now on, and looks whether the last one still does.
func (w *witness) begin(account, step string, c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := w.running[account]; last != nil {
		w.end(last, step)
	}
	w.running[account] = c
	w.steps++
}

// end finds out whether the step that held the connection goes on: it has ended
// when the process has closed the connection or has died with it. The look does
// not wait; it is repeated for some milliseconds, since the packets of two
// connections may pass each other between two cores.
func (w *witness) end(last *net.TCPConn, next string) {
	defer last.Close()
	raw, err := last.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(5 * time.Millisecond); ; time.Sleep(time.Millisecond) {
		open := false
		err := raw.Read(func(fd uintptr) bool {
			_, err := syscall.Read(int(fd), make([]byte, 1))
			open = errors.Is(err, syscall.EAGAIN)
			return true
		})
		if err != nil || !open {
			return
		}
		if time.Now().After(end) {
			w.overlaps = append(w.overlaps, "a step of the account was running when this one began: "+next)
			return
		}
	}
}

// close ends the observation and returns what was seen.
func (w *witness) close() (steps int, overlaps []string) {
	w.l.Close()
	w.mu.Lock()
	for _, c := range w.running {
		c.Close()
	}
	steps, overlaps = w.steps, w.overlaps
	w.mu.Unlock()
	w.wg.Wait()
	return steps, overlaps
}

// TestWitnessSeesOverlap makes sure that the witness can say no.
func TestWitnessSeesOverlap(t *testing.T) {
	w := newWitness(t)
	step := func(line string) net.Conn {
		c, err := net.Dial("tcp", "127.0.0.1:"+w.port)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(line + "\n"))
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return c
	}
	step("a withdraw").Close()
	first := step("a deposit") // after the other has ended
	other := step("b deposit") // another account
	second := step("a settle") // while the first runs
	for _, c := range []net.Conn{first, other, second} {
		c.Close()
	}
	if steps, overlaps := w.close(); steps != 4 || len(overlaps) != 1 || !strings.Contains(overlaps[0], "a settle") {
		t.Fatalf("%d steps, overlaps %q", steps, overlaps)
	}
}

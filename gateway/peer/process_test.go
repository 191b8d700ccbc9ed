package peer

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	kar "github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

const childOf = "KAR_TEST_CHILD_OF"

// TestMain is the other process of TestRealProcess when it is told so.
func TestMain(m *testing.M) {
	if parent := os.Getenv(childOf); parent != "" {
		if err := child(parent); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(parent string) error {
	p, err := New(Config{Mesh: "m", Node: "child", Silence: silence})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(Path, p)
	go func() { _ = http.Serve(l, mux) }() //nolint:gosec // ends with the process
	p.Start(&node{})
	p.Connect([]kar.Member{{Node: "a", Address: parent}})
	_, _ = os.Stdout.WriteString("http://" + l.Addr().String() + "\n")
	_, err = io.Copy(io.Discard, os.Stdin) // until the parent ends
	return err
}

// TestRealProcess stops, continues and kills another process.
func TestRealProcess(t *testing.T) {
	leaks(t)
	a := start(t, "a")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childOf+"="+a.server.URL)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	a.Connect([]kar.Member{{Node: "child", Address: strings.TrimSpace(address)}})
	a.until(t, "up child")

	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "asks are not answered", func() bool { // it stops a moment later
		_, err := a.Ask(t.Context(), "child", &engine.Op{})
		return isAgain(err) || isUnsent(err)
	})
	a.until(t, "up child", "down child")
	if d := time.Since(began); d > 2*silence {
		t.Errorf("a stopped process was down after %s", d)
	}
	time.Sleep(2 * silence)              // dials are answered by the kernel alone
	a.until(t, "up child", "down child") // not dead
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Ask(ctx, "child", &engine.Op{})
		return err == nil
	})
	began = time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is dead", func() bool {
		calls := a.sawCalls()
		return calls[len(calls)-1] == "dead child"
	})
	t.Logf("dead after %s", time.Since(began))
	if d := time.Since(began); d > silence {
		t.Errorf("a killed process was known dead after %s", d)
	}
}

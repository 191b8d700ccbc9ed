package guard

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	var number int
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	return master, slave
}

// A screen keeps what was printed on a terminal.
type screen struct {
	mu  sync.Mutex
	all strings.Builder
}

func (s *screen) follow(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.all.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) shows(text string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Contains(s.all.String(), text)
	}
}

// TestCommandOwnsTheTerminal: it can read from it, Ctrl-C goes to it alone, and
// afterwards the sidecar's group has the terminal again.
func TestCommandOwnsTheTerminal(t *testing.T) {
	master, slave := openTerminal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "sidecar", "", "sh", "-c",
		`trap 'echo interrupted; exit 5' INT; read line; echo "got $line"; while :; do sleep 0.01; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	s := &screen{}
	go s.follow(master) // ends with the terminal

	if _, err := master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the command reads from the terminal", s.shows("got hello"))
	if _, err := master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "Ctrl-C reaches the command", s.shows("interrupted"))
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("got %v, want the command's exit code: the sidecar itself was not interrupted", err)
	}
}

// TestStoppedInTheBackground: a command that reads from the terminal without having it is
// stopped by the kernel. That is said, and it goes on when its job comes to the foreground.
func TestStoppedInTheBackground(t *testing.T) {
	master, slave := openTerminal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-m", "-c", `"$KAR_TEST_SELF" sidecar "" sh -c 'read line; echo "got $line"; exit 6' & read go; fg`)
	cmd.Env = append(os.Environ(), "KAR_TEST_SELF="+self)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	s := &screen{}
	go s.follow(master) // ends with the terminal

	until(t, 10*time.Second, "the stop is said", s.shows("stopped: "+syscall.SIGTTIN.String()))
	if _, err := master.WriteString("go\n"); err != nil { // the shell's
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the job comes to the foreground", s.shows("go"))
	if _, err := master.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the command reads from the terminal", s.shows("got hello"))
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 6 {
		t.Errorf("the job ends with %d", code)
	}
}

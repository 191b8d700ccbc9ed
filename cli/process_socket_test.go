package cli

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/karmesh/kar/cli/background"
)

// The tests in this file take the socket away from a gateway that lives.

// atRuntimeDir is a user with a runtime folder, which goes at a logout.
func atRuntimeDir(t *testing.T) (u *user, run string) {
	run, err := os.MkdirTemp("", "kar-r-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	return newUser(t, "XDG_RUNTIME_DIR="+run), run
}

type socketStatus struct {
	Running bool
	Socket  string
	PID     int
	Hosts   int
}

func (u *user) found() (s socketStatus) {
	u.t.Helper()
	got := u.kar("gateway", "status", "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &s); err != nil {
		u.t.Fatalf("%v: %+v", err, got)
	}
	return s
}

// sleeper is a component that only asks.
func (u *user) sleeper() *process {
	p := u.start("run", "-app", "a", "--", "sh", "-c", "echo up; exec sleep 600")
	p.says("up")
	eventually(u.t, "it is attached", func() bool { return u.found().Hosts == 1 })
	return p
}

// TestSocketFileGoes: a logout takes the runtime folder away, the next login makes it
// again, and the gateway is found by all that the user has.
func TestSocketFileGoes(t *testing.T) {
	u, run := atRuntimeDir(t)
	u.sleeper()
	before := u.found()
	if !strings.HasPrefix(before.Socket, run) {
		t.Fatalf("%+v", before)
	}
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := u.kar("get", "-app", "a", "-s", "sidecars"); got.code != 0 {
		t.Errorf("a command at once: %+v", got)
	}
	if s := u.found(); s.PID != before.PID || !s.Running || s.Hosts != 1 {
		t.Errorf("%+v, then %+v", before, s)
	}
	eventually(t, "the socket is back", func() bool { return exists(filepath.Split(before.Socket)) })
	if info, err := os.Stat(filepath.Dir(before.Socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v", info, err)
	}
	if got := u.kar("gateway", "stop"); got.out != "The gateway has stopped.\n" || !processGone(before.PID) {
		t.Errorf("stop: %+v", got)
	}
}

// TestRuntimeFolderStaysAway: without a login the gateway listens in the state folder,
// and so does the next one, which components find.
func TestRuntimeFolderStaysAway(t *testing.T) {
	u, run := atRuntimeDir(t)
	u.sleeper()
	before := u.found()
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(run, nil, 0o600); err != nil { // it cannot be made, as in /run/user
		t.Fatal(err)
	}
	s := u.found()
	if s.PID != before.PID || !s.Running || !strings.HasPrefix(s.Socket, u.state) {
		t.Fatalf("%+v, then %+v", before, s)
	}
	send(t, syscall.SIGKILL, s.PID)
	eventually(t, "its component has another gateway", func() bool {
		next := u.found()
		return next.Running && next.PID != s.PID && next.Hosts == 1
	})
}

// TestSocketInAFolderOfAll: the folder stays as it is, and the socket is its user's.
func TestSocketInAFolderOfAll(t *testing.T) {
	u := newUser(t)
	folder := filepath.Join(filepath.Dir(u.state), "all")
	socket := filepath.Join(folder, "x.sock")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	u.start("gateway", "--listen", "127.0.0.1:0", "--socket", socket).says("gateway ready")
	if info, err := os.Stat(folder); err != nil || info.Mode() != 0o777|os.ModeSticky|os.ModeDir {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
}

// TestSocketOfAnotherGateway: of two gateways that are given one socket, the second
// does not start, and the first takes nothing from who listens there later.
func TestSocketOfAnotherGateway(t *testing.T) {
	a, b := newUser(t), newUser(t)
	socket := filepath.Join(filepath.Dir(a.state), "s", "x.sock")
	first := a.start("gateway", "--listen", "127.0.0.1:0", "--socket", socket)
	first.says("gateway ready")
	if got := b.kar("gateway", "--listen", "127.0.0.1:0", "--socket", socket); got.code == 0 || !strings.Contains(got.errout, a.state) {
		t.Errorf("%+v", got)
	}
	before := a.found()
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(background.Status{PID: 1, StateDir: b.state})
	})}
	t.Cleanup(func() { _ = other.Close() })
	go func() { _ = other.Serve(l) }()
	first.says("listens in another place")
	if s := a.found(); s.PID != before.PID || !s.Running {
		t.Errorf("%+v, then %+v", before, s)
	}
	if s, err := background.Ask(t.Context(), socket); err != nil || s.StateDir != b.state {
		t.Errorf("%+v, %v", s, err)
	}
	if got := a.kar("gateway", "stop"); got.out != "The gateway has stopped.\n" {
		t.Errorf("%+v", got)
	}
	if _, err := background.Ask(t.Context(), socket); err != nil {
		t.Errorf("the end of the first: %v", err)
	}
}

// TestGatewayWithoutASocket: one that can listen nowhere is named, and can be stopped.
func TestGatewayWithoutASocket(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a gateway that does not come back")
	}
	u, run := atRuntimeDir(t)
	u.sleeper().cmd.Process.Kill()
	before := u.found()
	for _, path := range []string{run, filepath.Join(u.state, "gateway.sock")} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := u.kar("gateway", "status")
	if pid := " " + strconv.Itoa(before.PID) + " "; got.code != exitNoGateway || !strings.Contains(got.out, pid) || !strings.Contains(got.out, "kar gateway stop") {
		t.Errorf("status: %+v", got)
	}
	if got := u.kar("get", "-app", "a", "-s", "sidecars"); got.code == 0 || !strings.Contains(got.errout, "kar gateway stop") {
		t.Errorf("a command: %+v", got)
	}
	if got := u.kar("gateway", "stop"); got.out != "The gateway has stopped.\n" {
		t.Errorf("stop: %+v", got)
	}
	if got := u.kar("gateway", "status"); !strings.Contains(got.out, "No gateway runs") {
		t.Errorf("status: %+v", got)
	}
}

package background

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

// TestMain lets this binary play the gateway that Ensure starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "gateway" {
		os.Exit(playGateway(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// playGateway takes --background --state-dir DIR --socket PATH [VERSION [busy|broken]].
func playGateway(args []string) int {
	dir, socket, version, mode := args[2], args[4], "v1.0.0", ""
	if len(args) > 5 {
		version = args[5]
	}
	if len(args) > 6 {
		mode = args[6]
	}
	if mode == "broken" {
		TellReady(runtime.Errorf(runtime.CodeDamaged, "the file x is damaged"))
		return 1
	}
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		TellReady(err)
		return 1
	}
	place := Place{Dir: dir, Socket: socket}
	if err := place.WriteNote(Note{PID: os.Getpid(), Version: version, Socket: socket}); err != nil {
		TellReady(err)
		return 1
	}
	starts, err := os.OpenFile(filepath.Join(dir, "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	_, _ = starts.WriteString("x")
	_ = starts.Close()
	mux := http.NewServeMux()
	mux.HandleFunc(StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Status{PID: os.Getpid(), Version: version, Background: true, Idle: mode != "busy", StateDir: dir})
	})
	mux.HandleFunc(StopPath, func(http.ResponseWriter, *http.Request) { time.AfterFunc(time.Millisecond, func() { os.Exit(0) }) })
	TellReady(nil)
	_ = http.Serve(l, mux)
	return 0
}

func newEnsurer(t *testing.T, version string, args ...string) Ensurer {
	t.Helper()
	place, err := At(t.TempDir(), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	e := Ensurer{Place: place, Version: version, Args: args}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := place.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return e
}

func starts(e Ensurer) int {
	b, _ := os.ReadFile(filepath.Join(e.Dir, "starts"))
	return len(b)
}

func TestManyAtOnceStartOne(t *testing.T) {
	e := newEnsurer(t, "v1.0.0")
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			socket, err := e.Ensure(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := Ask(t.Context(), socket); err != nil {
				t.Errorf("the gateway does not answer after Ensure: %v", err)
			}
		})
	}
	wait.Wait()
	if n := starts(e); n != 1 {
		t.Errorf("%d gateways were started, want 1", n)
	}
}

func TestKilledGatewayIsReplaced(t *testing.T) {
	e := newEnsurer(t, "v1.0.0")
	if _, err := e.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, _ := Ask(t.Context(), e.Socket)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for alive(first.PID) {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	if _, err := e.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v to have a gateway again", took)
	}
	if second, _ := Ask(t.Context(), e.Socket); second.PID == first.PID {
		t.Error("the killed gateway answers")
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		running, mode, ours string
		starts              int
	}{
		{"v1.0.0", "idle", "v1.1.0", 2}, // newer takes the place of an idle one
		{"v1.0.0", "busy", "v1.1.0", 1}, // but never of one with work
		{"v1.1.0", "idle", "v1.0.0", 1}, // a running newer one is fine
		{"v1.0.0", "idle", "v1.0.0", 1},
	} {
		old := newEnsurer(t, c.running, c.running, c.mode)
		if _, err := old.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := old
		next.Version, next.Args = c.ours, []string{c.ours, c.mode}
		if _, err := next.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := starts(old); n != c.starts {
			t.Errorf("%s (%s) running, %s asks: %d starts, want %d", c.running, c.mode, c.ours, n, c.starts)
		}
	}
}

func TestReasonOfAFailedStart(t *testing.T) {
	e := newEnsurer(t, "v1.0.0", "v1.0.0", "broken")
	_, err := e.Ensure(t.Context())
	var re *runtime.Error
	if !errors.As(err, &re) || re.Code != runtime.CodeDamaged || !strings.Contains(re.Detail, "file x") {
		t.Errorf("got %v, want what the gateway said", err)
	}
}

func TestProgramThatIsNoGateway(t *testing.T) {
	e := newEnsurer(t, "v1.0.0")
	e.Program = "/bin/true"
	_, err := e.Ensure(t.Context())
	var re *runtime.Error
	if !errors.As(err, &re) || re.Code != runtime.CodeNoGateway {
		t.Errorf("got %v", err)
	}
}

// TestProgramWhoseFileIsGone: the running program can still start a gateway.
func TestProgramWhoseFileIsGone(t *testing.T) {
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("no /proc")
	}
	e := newEnsurer(t, "v1.0.0")
	e.Program = programAt(filepath.Join(t.TempDir(), "gone"))
	if _, err := e.Ensure(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Mode bits do not stop root, under which tests may run; a file in the way does.
	place, err := At(filepath.Join(file, "kar"), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	_, err = Ensurer{Place: place, Version: "v1.0.0"}.Ensure(t.Context())
	var re *runtime.Error
	if !errors.As(err, &re) || re.Code != runtime.CodeReadOnly || !strings.Contains(re.Detail, place.Dir) {
		t.Errorf("got %v, want not_writable that names the folder", err)
	}
}

func TestSocketPathIsShortAndDistinct(t *testing.T) {
	none := func(string) string { return "" }
	seen := map[string]bool{}
	for _, dir := range []string{"/a", "/b", "/" + strings.Repeat("x", 200), "/" + strings.Repeat("x", 199) + "y"} {
		place, err := At(dir, none)
		if err != nil {
			t.Fatal(err)
		}
		if len(place.Socket) > socketLimit || seen[place.Socket] {
			t.Errorf("%.20s…: socket %s", dir, place.Socket)
		}
		seen[place.Socket] = true
	}
	run := t.TempDir()
	place, err := At("/a", func(k string) string { return map[string]string{"XDG_RUNTIME_DIR": run}[k] })
	if err != nil || !strings.HasPrefix(place.Socket, run+"/kar/") {
		t.Errorf("got %s, %v, want it in XDG_RUNTIME_DIR", place.Socket, err)
	}
}

func TestFoldersAreForThisUserOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kar")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	place, err := At(dir, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Prepare(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v, want 0700", info.Mode(), err)
	}
}

func TestNewer(t *testing.T) {
	order := []string{"v0.9.9", "v1.0.0-alpha", "v1.0.0-alpha.2", "v1.0.0-alpha.10", "v1.0.0-beta", "v1.0.0", "v1.0.1", "v1.10.0", "v2.0.0"}
	for i, a := range order {
		for j, b := range order {
			if Newer(a, b) != (i > j) {
				t.Errorf("Newer(%s, %s) is %v", a, b, i <= j)
			}
		}
	}
	for _, v := range []string{"unofficial", "", "v1", "1.2", "v1.x.0"} {
		if Newer(v, "v0.0.1") || Newer("v9.0.0", v) {
			t.Errorf("%q has a place in the order", v)
		}
	}
}

func TestLogIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.log")
	l, err := NewRotatingLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 20 {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > logLimit || info.Size() == 0 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
}

package mesh_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// What all tests share: the program, and a broker that no test hurts.
var (
	program string
	broker  *parts.SharedKafka
)

// witnessVariable makes this binary a component.
const witnessVariable = "MESH_TEST_WITNESS"

func TestMain(m *testing.M) {
	if path := os.Getenv(witnessVariable); path != "" {
		playComponent(path)
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kar-bin-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "kar")
	if out, err := exec.Command("go", "build", "-o", program, "../../cli/kar").CombinedOutput(); err != nil {
		fmt.Printf("building kar: %v\n%s", err, out)
		return 1
	}
	broker = parts.ShareKafka(parts.KafkaOptions{})
	defer broker.Close()
	return m.Run()
}

// The time scale of the tests: leases a fraction of the default.
const (
	gatewayLease = 600 * time.Millisecond
	hostLease    = 3 * time.Second
	partitions   = 16
)

// A mesh is some gateways on a Kafka and a Redis, and what is attached to them.
type mesh struct {
	t     *testing.T
	name  string
	kafka *parts.Kafka
	redis *parts.Redis
	env   []string // of every process

	mu       sync.Mutex
	gateways []*gateway // those that should run
}

type options struct {
	kafka *parts.Kafka // the shared one without
	redis *parts.Redis // a new one without
	env   []string
}

// newMesh has no gateway yet.
func newMesh(t *testing.T, o options) *mesh {
	t.Helper()
	m := &mesh{t: t, kafka: o.kafka, redis: o.redis, name: strings.ToLower(t.Name())}
	if m.kafka == nil {
		m.kafka = broker.Need(t)
	}
	if m.redis == nil {
		m.redis = parts.NeedRedis(t, parts.RedisOptions{})
	}
	m.name = strings.NewReplacer("/", "-", "_", "-").Replace(m.name) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAR_") && !strings.HasPrefix(v, "XDG_") && !strings.HasPrefix(v, "KAFKA_") && !strings.HasPrefix(v, "REDIS_") {
			m.env = append(m.env, v)
		}
	}
	home, err := os.MkdirTemp("", "kar-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	m.env = append(m.env, "HOME="+home, "KAR_STATE_DIR="+filepath.Join(home, "state"), "KAR_MESH="+m.name,
		"KAFKA_BROKERS="+strings.Join(m.kafka.Brokers(), ","), "REDIS_HOST="+m.redis.Host, "REDIS_PORT="+strconv.Itoa(m.redis.Port),
		"KAR_GATEWAY_LEASE="+gatewayLease.String(), "KAR_LEASE="+hostLease.String(), "KAR_PARTITIONS="+strconv.Itoa(partitions))
	m.env = append(m.env, o.env...)
	return m
}

// A process is a kar command that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	quit atomic.Bool // the test wants it to end
}

// An output keeps what a process has printed.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// start starts the program. It is ended with the test.
func (m *mesh) start(env []string, args ...string) *process {
	m.t.Helper()
	return m.startFor(m.t, env, args...)
}

func (m *mesh) startFor(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), out: &output{}, done: make(chan struct{})}
	p.cmd.Env = append(m.env[:len(m.env):len(m.env)], env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = dieWithUs()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel ends a child with the thread that started it
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if dir := os.Getenv("MESH_TEST_LOGS"); dir != "" { // to look at afterwards
			name := fmt.Sprintf("%s-%d-%s.log", strings.ReplaceAll(t.Name(), "/", "-"), p.cmd.Process.Pid, args[0])
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(p.out.String()), 0o600))
		}
		if t.Failed() {
			text := p.out.String()
			t.Logf("kar %s (pid %d) printed:\n%s", strings.Join(args, " "), p.cmd.Process.Pid, text[max(0, len(text)-5000):])
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %v to %v: %v", s, p.cmd.Args, err)
	}
}

// end ends the process and waits for that.
func (p *process) end(s syscall.Signal) {
	p.quit.Store(true)
	begin := time.Now()
	defer func() {
		if d := time.Since(begin); d > 5*time.Second {
			p.t.Logf("%v took %s to end", p.cmd.Args[1:], d.Round(time.Millisecond))
		}
	}()
	p.cmd.Process.Signal(s)
	p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%v did not end within 20 s of %v", p.cmd.Args, s)
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// code waits for the end and returns the exit code.
func (p *process) code(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%v did not end within %s:\n%s", p.cmd.Args, limit, p.out)
	}
	return p.cmd.ProcessState.ExitCode()
}

// A gateway is a process and where it listens.
type gateway struct {
	*process
	url string
}

// gateway starts one more gateway and waits until it is ready.
func (m *mesh) gateway(flags ...string) *gateway {
	m.t.Helper()
	g := m.launch(flags...)
	m.ready(g)
	return g
}

// launch does not wait.
func (m *mesh) launch(flags ...string) *gateway {
	m.t.Helper()
	address := "127.0.0.1:" + freePort(m.t)
	g := &gateway{url: "http://" + address, process: m.start(nil, append([]string{"gateway", "--listen", address}, flags...)...)}
	m.mu.Lock()
	m.gateways = append(m.gateways, g)
	m.mu.Unlock()
	return g
}

func (m *mesh) ready(g *gateway) {
	m.t.Helper()
	eventually(m.t, 30*time.Second, "gateway ready", func() bool {
		if !g.running() {
			m.t.Fatalf("the gateway ended:\n%s", g.out)
		}
		status, _, err := ask(http.MethodGet, g.url+"/kar/ready")
		return err == nil && status == http.StatusOK
	})
}

// three are the gateways of most tests.
func (m *mesh) three() []*gateway {
	m.t.Helper()
	gs := []*gateway{m.launch(), m.launch(), m.launch()}
	for _, g := range gs {
		m.ready(g)
	}
	return gs
}

// forget takes a gateway off the list of those that clients use.
func (m *mesh) forget(g *gateway) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateways = slices.DeleteFunc(m.gateways, func(x *gateway) bool { return x == g })
}

// urls are the gateways that clients know.
func (m *mesh) urls() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.gateways {
		all = append(all, g.url)
	}
	return all
}

// A component is a kar run with this binary as its program.
type component struct {
	*process
	app int // pid of the program
}

// component starts one and waits until it takes calls. At is KAR_GATEWAY, all
// gateways when it is "".
func (m *mesh) component(w *witness, at string) *component {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	if at == "" {
		at = strings.Join(m.urls(), ",")
	}
	c := &component{process: m.start([]string{witnessVariable + "=" + w.path, "KAR_GATEWAY=" + at},
		"run", "-app", "a", "-service", "s", "-actors", "T", "-app_port", freePort(m.t), "-v", "warning", "--", self)}
	eventually(m.t, 20*time.Second, "component listens", func() bool {
		_, rest, ok := strings.Cut(c.out.String(), "listening ")
		_, err := fmt.Sscan(rest, &c.app)
		return ok && err == nil
	})
	eventually(m.t, 20*time.Second, "component attached", func() bool {
		_, body, err := ask(http.MethodGet, m.urls()[0]+"/apps/a/kar/v1/system/information/sidecars")
		return err == nil && strings.Contains(body, "T")
	})
	return c
}

// untouched checks that the component runs as it was started.
func (c *component) untouched() {
	c.t.Helper()
	if !c.running() || syscall.Kill(c.app, 0) != nil {
		c.t.Errorf("the component was restarted or has ended:\n%s", c.out)
	}
}

// client starts a kar run without a component and returns the address of its API.
func (m *mesh) client(at string) (p *process, api string) {
	m.t.Helper()
	if at == "" {
		at = strings.Join(m.urls(), ",")
	}
	port := freePort(m.t)
	p = m.start([]string{"KAR_GATEWAY=" + at}, "run", "-app", "a", "-runtime_port", port, "-v", "warning")
	eventually(m.t, 20*time.Second, "sidecar listens", func() bool {
		_, _, err := ask(http.MethodGet, "http://127.0.0.1:"+port+"/kar/v1/system/health")
		return err == nil
	})
	return p, "http://127.0.0.1:" + port
}

// overloaded tells, and logs, that so much else runs on this machine that how
// long things take says nothing about KAR.
func overloaded(t *testing.T) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/loadavg")
	var load float64
	if _, scanned := fmt.Sscan(string(b), &load); err != nil || scanned != nil || load < 6*float64(runtime.NumCPU()) {
		return false
	}
	t.Logf("NOT JUDGED: how long things take, since the load of this machine is %.0f", load)
	return true
}

// freePort is a TCP port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// eventually waits until the check holds; what names it in the failure.
func eventually(t *testing.T, limit time.Duration, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !check(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain: %s", limit, what)
		}
	}
}

// must ends the test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask makes one request without body and gives up after 5 s.
func ask(method, url string) (int, string, error) {
	status, _, body, err := send(&http.Client{Timeout: 5 * time.Second}, method, url, nil, "")
	return status, body, err
}

// send makes one HTTP request.
func send(client *http.Client, method, url string, header map[string]string, body string) (int, http.Header, string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(answer), err
}

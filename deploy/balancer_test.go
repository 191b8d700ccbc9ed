package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestOneAddress runs what the compose file describes, as processes: a Kafka, a
// Redis, three gateways with the secret that env.sh has made, haproxy with its
// file in front of them, and the example component, which knows that one
// address. Each gateway in turn is killed; every call gets its one outcome.
func TestOneAddress(t *testing.T) {
	haproxy := parts.NeedProgram(t, "haproxy", "haproxy")
	kafka := parts.NeedKafka(t, parts.KafkaOptions{})
	redis := parts.NeedRedis(t, parts.RedisOptions{AppendOnly: true})
	dir := t.TempDir()
	kar, greeter := build(t, dir, "kar", "../cli/kar"), build(t, dir, "greeter", "../examples/greeter-go")

	out, err := exec.Command("sh", "env.sh", kar, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("env.sh: %v\n%s", err, out)
	}
	secret, token, operator := read(t, filepath.Join(dir, "mesh.env")), read(t, filepath.Join(dir, "hello.env")), read(t, filepath.Join(dir, "operator.env"))
	if strings.Contains(token, secret) || !strings.HasPrefix(token, "KAR_TOKEN=kar1.") {
		t.Fatalf("env.sh made %q", token)
	}

	ports := freePorts(t, 4)
	address := "http://127.0.0.1:" + ports[3]
	start := func(i int) *exec.Cmd {
		return run(t, []string{"KAFKA_BROKERS=" + strings.Join(kafka.Brokers(), ","), "REDIS_HOST=" + redis.Host, "REDIS_PORT=" + strconv.Itoa(redis.Port), strings.TrimSpace(secret)},
			kar, "gateway", "--listen", "127.0.0.1:"+ports[i])
	}
	var gateways []*exec.Cmd
	for i := range 3 {
		gateways = append(gateways, start(i))
	}
	cfg := read(t, "haproxy.cfg")
	for i := range 3 {
		cfg = strings.ReplaceAll(cfg, fmt.Sprintf("kar%d:8090", i+1), "127.0.0.1:"+ports[i])
	}
	cfg = strings.ReplaceAll(cfg, "bind :8090", "bind 127.0.0.1:"+ports[3])
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, haproxy, "-db", "-f", file)
	for _, p := range ports {
		eventually(t, p+" is ready", func() bool { return get("http://127.0.0.1:"+p+"/kar/ready", "") == "OK\n" })
	}
	component := run(t, []string{"KAR_GATEWAY=" + address, strings.TrimSpace(token)},
		kar, "run", "-app", "hello", "-service", "greeter", "-actors", "Visitor", "--", greeter)

	bearer := strings.TrimPrefix(strings.TrimSpace(token), "KAR_TOKEN=")
	if status, _ := post(address, "hello", "Visitor/x/call/visit", "no-key", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	visits := 0
	visit := func(n int) {
		t.Helper()
		for range n {
			visits++
			want := fmt.Sprintf(`"visits":%d}`, visits)
			if got := keep(t, address, bearer, visits); !strings.Contains(got, want) {
				t.Fatalf("visit %d: got %s", visits, got)
			}
		}
	}
	visit(10)
	for i, g := range gateways {
		if err := g.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		visit(20) // with two
		start(i)
		eventually(t, "it is back", func() bool { return get("http://127.0.0.1:"+ports[i]+"/kar/ready", "") == "OK\n" })
		visit(10) // with three
	}
	if component.ProcessState != nil || syscall.Kill(component.Process.Pid, 0) != nil {
		t.Error("the component did not live through it")
	}

	// What the gateways say of themselves adds up, and needs an operator's token.
	admin := strings.TrimPrefix(strings.TrimSpace(operator), "KAR_TOKEN=")
	eventually(t, "all partitions have one owner each", func() bool {
		owned := 0
		for _, p := range ports[:3] {
			m := metrics(get("http://127.0.0.1:"+p+"/metrics", admin))
			owned += int(m["kar_partitions_owned"])
			if m["kar_gateways_alive"] != 3 || m["kar_peer_streams"] != 2 || m["kar_partitions_unowned"] != 0 || m["kar_partitions_owned"] == 0 {
				return false
			}
		}
		return owned == 64
	})
	sums := map[string]float64{}
	for _, p := range ports[:3] {
		for name, value := range metrics(get("http://127.0.0.1:"+p+"/metrics", admin)) {
			sums[name] += value
		}
	}
	for _, name := range []string{"kar_forwarded_total", "kar_forwarded_served_total", "kar_partitions_taken_over_total", "kar_peer_frames_out_total", "kar_log_reaches_back_seconds"} {
		if sums[name] <= 0 {
			t.Errorf("%s is %v", name, sums[name])
		}
	}
	status := get(address+"/kar/status", admin)
	if n := strings.Count(status, `"alive":true`); n != 3 || strings.Contains(status, secret) {
		t.Errorf("%d gateways alive: %s", n, status)
	}
	topicCommands(t, kafka)
}

// topicCommands types what the guide says about the settings of the log. With
// one copy nothing can be written afterwards, so it comes last.
func topicCommands(t *testing.T, kafka *parts.Kafka) {
	t.Helper()
	page := strings.ReplaceAll(read(t, "../docs/operations.md"), "\\\n", "")
	commands := regexp.MustCompile(`(?m)^kafka-configs\.sh (.*)$`).FindAllStringSubmatch(page, -1)
	if len(commands) == 0 {
		t.Error("the guide has no commands for the log's settings")
	}
	for _, c := range commands {
		words := strings.Fields(strings.ReplaceAll(c[1], "kafka1:9092", kafka.Brokers()[0]))
		if out, err := kafka.Tool(t.Context(), "kafka.admin.ConfigCommand", words...); err != nil || !strings.Contains(out, "Completed updating") {
			t.Errorf("%v: %v\n%s", words, err, out)
		}
	}
}

// keep visits under a key until there is an outcome.
func keep(t *testing.T, address, bearer string, n int) string {
	t.Helper()
	var last string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		status, body := post(address, "hello", "Visitor/alice/call/visit", fmt.Sprint("visit-", n), bearer)
		if status == http.StatusOK {
			return body
		}
		last = fmt.Sprint(status, " ", body)
		if status != 0 && status < 500 {
			break
		}
	}
	t.Fatalf("visit %d has no outcome: %s", n, last)
	return ""
}

func post(address, app, path, key, bearer string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/apps/"+app+"/kar/v1/actor/"+path, strings.NewReader("[]"))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("Content-Type", "application/kar+json")
	r.Header.Set("Idempotency-Key", key)
	return do(r, bearer)
}

func get(url, bearer string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err.Error()
	}
	_, body := do(r, bearer)
	return body
}

func do(r *http.Request, bearer string) (int, string) {
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// metrics are the series without labels.
func metrics(text string) map[string]float64 {
	all := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^(kar_[a-z_]+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		all[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return all
}

func build(t *testing.T, dir, name, pkg string) string {
	t.Helper()
	bin := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", bin, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// run starts a process that ends with the test.
func run(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KAR_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	said := &buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%v said:\n%s", args, said)
		}
	})
	return cmd
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

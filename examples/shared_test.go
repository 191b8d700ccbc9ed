package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestOnSharedMesh runs the whole applications again, unchanged, on a mesh of
// three gateways on a real Kafka and a real Redis.
func TestOnSharedMesh(t *testing.T) {
	if os.Getenv(gatewaysVariable) != "" {
		t.Skip("this is the inner run")
	}
	kafka := parts.NeedKafka(t, parts.KafkaOptions{})
	redis := parts.NeedRedis(t, parts.RedisOptions{})
	var list []string
	for range 3 {
		address, _ := startGateway(t, "KAFKA_BROKERS="+strings.Join(kafka.Brokers(), ","), "REDIS_HOST="+redis.Host, "REDIS_PORT="+strconv.Itoa(redis.Port))
		list = append(list, address)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.run", "^(TestDiningPhilosophers|TestPubSub|TestKarSDKForNode|TestKarSDKForPython|TestGreeter.*|TestBank|TestRepeatedKeyOfChain)$")
	cmd.Env = append(os.Environ(), gatewaysVariable+"="+strings.Join(list, ","))
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestKarSDKForNode")) && os.Getenv("CI") == "true" {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// startGateway runs a gateway of a shared mesh until the test ends, or it is killed.
func startGateway(t *testing.T, env ...string) (address string, kill func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	var said bytes.Buffer
	cmd := exec.Command(os.Getenv(binaryVariable), "gateway", "--listen", listen)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	killed := false
	kill = func() {
		killed = true
		_ = cmd.Process.Kill()
		<-ended
	}
	t.Cleanup(func() {
		if killed {
			return
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("the gateway at %s does not end\n%s", listen, <-ended)
		}
		if t.Failed() {
			t.Logf("the gateway at %s said\n%s", listen, &said)
		}
	})
	address = "http://" + listen
	eventually(t, 30*time.Second, "the gateway at "+address, func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("a gateway ended: %v\n%s", err, &said)
		default:
		}
		r, err := http.Get(address + "/kar/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return address, kill
}

// TestEventsOverTakeovers: gateways that deliver events are killed meanwhile.
// Every event that was published becomes one call, in order.
func TestEventsOverTakeovers(t *testing.T) {
	kafka := parts.NeedKafka(t, parts.KafkaOptions{})
	redis := parts.NeedRedis(t, parts.RedisOptions{})
	env := []string{"KAFKA_BROKERS=" + strings.Join(kafka.Brokers(), ","), "REDIS_HOST=" + redis.Host, "REDIS_PORT=" + strconv.Itoa(redis.Port), "KAR_GATEWAY_LEASE=1s", "KAR_PARTITIONS=8"}
	first, _ := startGateway(t, env...) // publishes, and is not killed
	second, kill2 := startGateway(t, env...)
	third, kill3 := startGateway(t, env...)

	var mu sync.Mutex
	got := map[string][]string{} // by actor
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return // activation, and whether the type is known
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		id := strings.Split(r.URL.Path, "/")[6]
		got[id] = append(got[id], string(body))
	}))
	defer app.Close()
	_, port, err := net.SplitHostPort(app.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sidecar := exec.Command(os.Getenv(binaryVariable), "run", "-app", "ev", "-actors", "Counter", "-app_port", port)
	sidecar.Env = append(os.Environ(), "KAR_GATEWAY="+strings.Join([]string{first, second, third}, ","))
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sidecar.Process.Signal(syscall.SIGTERM)
		_ = sidecar.Wait()
	}()
	send := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, first+"/apps/ev/kar/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			text, _ := io.ReadAll(resp.Body)
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
	}
	send(http.MethodPut, "event/ticks", "")
	const actors, events = 8, 300 // actors in most partitions
	for a := range actors {
		send(http.MethodPut, fmt.Sprintf("actor/Counter/%d/events/s", a), `{"path":"/seen","topic":"ticks"}`)
	}
	for i := range events {
		switch i {
		case events / 3:
			kill2()
		case 2 * events / 3:
			kill3()
		}
		send(http.MethodPost, "event/ticks/publish", fmt.Sprintf(`{"n":%d}`, i))
	}
	count := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, list := range got {
			n += len(list)
		}
		return n
	}
	eventually(t, time.Minute, "all events", func() bool { return count() >= actors*events })
	mu.Lock()
	defer mu.Unlock()
	for a := range actors {
		list := got[strconv.Itoa(a)]
		if len(list) != events {
			t.Errorf("actor %d got %d of %d events", a, len(list), events)
		}
		for i, body := range list {
			if want := fmt.Sprintf(`{"n":%d}`, i); !strings.Contains(body, want) {
				t.Errorf("actor %d, event %d: %s", a, i, body)
				break
			}
		}
	}
}

package examples_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
		list = append(list, startGateway(t, "KAFKA_BROKERS="+strings.Join(kafka.Brokers(), ","), "REDIS_HOST="+redis.Host, "REDIS_PORT="+strconv.Itoa(redis.Port)))
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

// startGateway runs a gateway of a shared mesh until the test ends.
func startGateway(t *testing.T, env ...string) (address string) {
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
	t.Cleanup(func() {
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
	return address
}

package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestSettingsOfKAR1x: components that are told a Kafka and a Redis and no
// gateway, in all the ways that KAR 1.x knew, meet each other.
func TestSettingsOfKAR1x(t *testing.T) {
	const password = "not-for-ps"
	kafka := parts.NeedKafka(t, parts.KafkaOptions{})
	redis := parts.NeedRedis(t, parts.RedisOptions{Password: password})
	brokers, port := strings.Join(kafka.Brokers(), ","), strconv.Itoa(redis.Port)

	// One machine is told by the environment, another by flags, a third by a folder.
	one := newUser(t, "KAR_APP=a", "KAR_GATEWAY_LEASE=1s", "KAFKA_BROKERS="+brokers, "REDIS_HOST="+redis.Host, "REDIS_PORT="+port, "REDIS_PASSWORD="+password)
	two := newUser(t, "KAR_GATEWAY_LEASE=1s")
	flags := []string{"-app", "a", "-kafka_brokers", brokers, "-kafka_version=2.8.1", "-kafka_topic_config", "retention.ms=900000",
		"-redis_host", redis.Host, "-redis_port=" + port, "-redis_password", password}
	three := newUser(t, "KAR_GATEWAY_LEASE=1s")
	dir := t.TempDir()
	for name, value := range map[string]string{"kafka_brokers": brokers, "redis_host": redis.Host, "redis_port": port, "redis_password": password} {
		write(t, filepath.Join(dir, name), value+"\n")
	}
	folder := []string{"-app=a", "-config_dir", dir}
	t.Cleanup(func() {
		for u, args := range map[*user][]string{one: nil, two: flags, three: folder} {
			u.kar(append([]string{"gateway", "stop"}, args...)...)
		}
	})

	one.component(t.TempDir())
	invoke := func(u *user, more []string, args ...string) {
		t.Helper()
		got := u.kar(append(append([]string{"invoke"}, more...), append([]string{"T", "x", "echo"}, args...)...)...)
		if got.code != 0 || got.out != "["+strings.Join(args, ",")+"]\n" || got.errout != "" {
			t.Fatalf("got %+v", got)
		}
	}
	invoke(one, nil, "1")
	invoke(two, flags, "2")
	invoke(three, folder, "3")

	// Each has a gateway of its own in a folder of its own, and finds it again.
	before, runs := one.status()
	if !runs || !strings.HasPrefix(before.StateDir, filepath.Join(one.state, "mesh", "kar_a-")) || before.Hosts != 1 {
		t.Fatalf("status: %v %+v", runs, before)
	}
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(before.PID), file))
		if has := strings.Contains(string(b), password); err == nil && has != (file == "environ") {
			t.Errorf("the password is in the gateway's %s: %v", file, has)
		}
	}
	for u, args := range map[*user][]string{two: flags, three: folder} {
		if got := u.kar(append([]string{"gateway", "status"}, args...)...); got.code != 0 || !strings.Contains(got.out, "kar_a-") {
			t.Errorf("status: %+v", got)
		}
		if got := u.kar(append([]string{"gateway", "logs"}, args...)...); got.code != 0 || !strings.Contains(got.out, "gateway ready") || strings.Contains(got.out, password) {
			t.Errorf("logs: %+v", got)
		}
		if got := u.kar("gateway", "status"); got.code != 4 {
			t.Errorf("without the settings it is local mode's: %+v", got)
		}
	}

	// The sidecar of the component brings back its gateway, which was killed.
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	invoke(two, flags, "4")
	eventually(t, "the gateway is back", func() bool {
		after, runs := one.status()
		return runs && after.PID != before.PID && after.Hosts == 1
	})
	invoke(one, nil, "5")
	invoke(three, folder, "6")

	if got := three.kar(append([]string{"gateway", "stop"}, folder...)...); got.code != 0 || !strings.Contains(got.out, "has stopped") {
		t.Errorf("stop: %+v", got)
	}
	invoke(three, folder, "7")
}

func TestSettingsOfKAR1xThatAreNotEnough(t *testing.T) {
	for _, c := range []struct {
		env        []string
		args       []string
		code       int
		says, more string
	}{
		{[]string{"KAFKA_BROKERS=broker:9092"}, []string{"get", "-app", "a"}, 2, "bad_config", "REDIS_HOST"},
		{[]string{"KAFKA_BROKERS=broker:9092"}, []string{"run", "-app", "a", "--", "true"}, 2, "bad_config", "REDIS_HOST"},
		{[]string{"KAFKA_BROKERS=127.0.0.1:1", "REDIS_HOST=127.0.0.1", "REDIS_PORT=1", "REDIS_PASSWORD=hush-hush"}, []string{"get", "-app", "a"}, 1, "kafka_unreachable", "127.0.0.1:1"},
		{[]string{"KAFKA_BROKERS=b:1", "REDIS_HOST=r"}, []string{"gateway", "status"}, 2, "bad_flag", "--app"},
		{[]string{"KAFKA_BROKERS=b:1", "REDIS_HOST=r"}, []string{"gateway", "status", "-app", "a"}, 4, "", ""},
		// A Redis alone is the application's own.
		{[]string{"REDIS_HOST=127.0.0.1", "REDIS_PORT=1"}, []string{"get", "-app", "a"}, 0, "", ""},
		// A gateway is named: the rest is not looked at.
		{[]string{"KAFKA_BROKERS=b:1", "KAR_GATEWAY=http://127.0.0.1:1"}, []string{"get", "-app", "a"}, 4, "no_gateway", ""},
		// The folder is the same for Kafka and Redis as without them.
		{[]string{"KAFKA_BROKERS=b:1", "REDIS_HOST=r", "KAR_STATE_DIR=/dev/null/kar"}, []string{"get", "-app", "a"}, 1, "not_writable", "/dev/null/kar/mesh/kar_a-"},
	} {
		u := newUser(t, c.env...)
		got := u.kar(c.args...)
		if got.code != c.code || !strings.Contains(got.errout, c.says) || !strings.Contains(got.errout, c.more) || strings.Contains(got.errout, "hush") {
			t.Errorf("%v kar %v: %+v", c.env, c.args, got)
		}
	}
}

// TestMeshPlace: the same Kafka, Redis and mesh are one gateway, others another.
func TestMeshPlace(t *testing.T) {
	place := func(app string, env ...string) string {
		t.Helper()
		all := map[string]string{"KAR_STATE_DIR": "/s", "KAFKA_BROKERS": "a:1,b:2", "REDIS_HOST": "r"}
		for _, v := range env {
			name, value, _ := strings.Cut(v, "=")
			all[name] = value
		}
		c, err := parseRun(t, all, "--app="+app)
		if err != nil {
			t.Fatal(err)
		}
		p := &program{getenv: func(k string) string { return all[k] }}
		e, err := p.backgroundGateway(c)
		if err != nil {
			t.Fatal(err)
		}
		return e.Dir
	}
	same := place("x")
	if !strings.HasPrefix(same, "/s/mesh/kar_x-") {
		t.Errorf("got %s", same)
	}
	for _, env := range []string{"KAFKA_BROKERS=b:2,a:1, a:1", "KAR_MESH=kar_x", "REDIS_PASSWORD=p", "KAFKA_USERNAME=u"} {
		if got := place("x", env); got != same {
			t.Errorf("%s: got %s, want %s", env, got, same)
		}
	}
	seen := map[string]string{same: ""}
	for _, env := range []string{"KAFKA_BROKERS=a:1", "REDIS_HOST=q", "REDIS_PORT=1", "REDIS_SENTINELS=s:1", "REDIS_CLUSTER=c:1", "KAR_MESH=y"} {
		got := place("x", env)
		if other, twice := seen[got]; twice {
			t.Errorf("%s and %q: both %s", env, other, got)
		}
		seen[got] = env
	}
	if a, b := place("my.app"), place("my/app"); a == b || !strings.HasPrefix(a, "/s/mesh/kar_my-app-") {
		t.Errorf("got %s and %s", a, b)
	}
	if long := place(strings.Repeat("x", 200)); len(filepath.Base(long)) > 120 {
		t.Errorf("got %s", long)
	}
	if got := place("x", "KAFKA_BROKERS="); got != "/s" {
		t.Errorf("without Kafka: got %s, want local mode", got)
	}
}

package parts

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRedisParts: a server keeps what it should over kill and stall.
func TestRedisParts(t *testing.T) {
	r := NeedRedis(t, RedisOptions{AppendOnly: true, AppendSync: "always", Password: "secret"})
	ctx := t.Context()
	do := func(want string, words ...string) {
		t.Helper()
		if got, err := r.Do(ctx, words...); err != nil || got != want {
			t.Fatalf("%v = %q, %v; want %q", words, got, err, want)
		}
	}
	do("OK", "SET", "a", "1")
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Do(ctx, "PING"); err == nil {
		t.Fatal("it answers after Kill")
	}
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	do("1", "EXISTS", "a")
	if err := r.Start(ctx); err == nil {
		t.Fatal("started twice")
	}
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { _, err := r.Do(ctx, "PING"); answered <- err }()
	select {
	case err := <-answered:
		t.Fatalf("it answers while it stands still: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	do("0", "EXISTS", "a")
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRedisDiesWithUs: a test binary that is killed leaves no server behind.
func TestRedisDiesWithUs(t *testing.T) {
	if os.Getenv("KAR_TEST_REDIS_PARENT") != "" {
		r := NeedRedis(t, RedisOptions{})
		fmt.Println("at", r.Addr())
		select {}
	}
	NeedRedis(t, RedisOptions{}) // where there is none, this test cannot be
	cmd := exec.Command(os.Args[0], "-test.run=^TestRedisDiesWithUs$", "-test.v")
	cmd.Env = append(os.Environ(), "KAR_TEST_REDIS_PARENT=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "at "); ok {
			addr = at
			break
		}
	}
	reachable := func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if !reachable() {
		_ = cmd.Process.Kill()
		t.Fatalf("no server at %q", addr)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for until := time.Now().Add(5 * time.Second); reachable(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the server lives on")
		}
	}
}

// TestRedisInstall: where there is no server it is installed once, or named.
func TestRedisInstall(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("KAR_TEST_REDIS_SERVER", "")
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("PATH", bin)
	if _, err := redisBinary(t.Context()); err == nil || !strings.Contains(err.Error(), "redis-server") {
		t.Fatalf("without anything: %v", err)
	}
	script := "#!/bin/sh\necho \"$@\" >> " + bin + "/log\ncase \"$*\" in *install*) /bin/ln -s /bin/true " + bin + "/redis-server;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	path, err := redisBinary(t.Context())
	if os.Geteuid() != 0 {
		if err == nil {
			t.Fatal("installed without being root")
		}
		return
	}
	if err != nil || path != filepath.Join(bin, "redis-server") {
		t.Fatalf("%q, %v", path, err)
	}
	if _, err := redisBinary(t.Context()); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(bin, "log"))
	if err != nil || strings.Count(string(log), "install -y") != 1 {
		t.Fatalf("apt-get was asked: %s %v", log, err)
	}
}

package examples_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGreeterJS(t *testing.T) {
	dir := node(t, "greeter-js")
	m := newMesh(t)
	m.run(dir, []string{"-app", "hello", "-service", "greeter"}, "node", "server.js")
	m.gives(`{"greetings":"Hello Alice!"}`, "rest", "-app", "hello", "post", "greeter", "helloJson", `{"name":"Alice"}`)
	m.gives("Hello Gandalf the Grey!", "rest", "-app", "hello", "-content_type", "text/plain", "post", "greeter", "helloText", "Gandalf the Grey")
	m.gives("well", "rest", "-app", "hello", "get", "greeter", "health")
	out := m.ok("run", "-app", "hello", "-app_port", freePort(t), "--", "node", filepath.Join(dir, "client.js"))
	for _, want := range []string{"Hello Alice!", "Hello Bob!"} {
		if !strings.Contains(out, want) {
			t.Errorf("the client printed %q, without %q", out, want)
		}
	}
}

func TestGreeterPython(t *testing.T) {
	interpreter := python(t, filepath.Join("greeter-py", "requirements.txt"))
	dir := t.TempDir()
	copyTree(t, "greeter-py", dir)
	m := newMesh(t)
	c := m.run(dir, []string{"-app", "hello-py", "-service", "greeter", "-actors", "Tally"}, interpreter, "server.py")
	m.gives(`{"greetings":"Hello Alice!"}`, "rest", "-app", "hello-py", "post", "greeter", "helloJson", `{"name":"Alice"}`)
	m.gives("5", "invoke", "-app", "hello-py", "Tally", "7", "add", "5")
	m.gives("8", "invoke", "-app", "hello-py", "Tally", "7", "add", "3")
	c.stop()
	m.run(dir, []string{"-app", "hello-py", "-service", "greeter", "-actors", "Tally"}, interpreter, "server.py")
	m.gives("8", "invoke", "-app", "hello-py", "Tally", "7", "get")
}

// greeterGo builds the example that needs no SDK.
func greeterGo(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "greeter")
	if out, err := exec.Command("go", "build", "-o", bin, "./greeter-go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func TestGreeterGo(t *testing.T) {
	m := newMesh(t)
	m.run(t.TempDir(), []string{"-app", "go", "-service", "greeter", "-actors", "Visitor"}, greeterGo(t))
	m.gives(`{"greetings":"Hello Alice!"}`, "rest", "-app", "go", "post", "greeter", "helloJson", `{"name":"Alice"}`)
	m.gives(`{"visits":1}`, "invoke", "-app", "go", "Visitor", "a visitor/with 100% odd näme", "visit")
	m.gives(`{"visits":2}`, "invoke", "-app", "go", "Visitor", "a visitor/with 100% odd näme", "visit")
	m.gives(`{"visits":1}`, "invoke", "-app", "go", "Visitor", "another", "visit")
}

// TestDemo is what make demo shows: the process dies in the middle of a call, and the call goes on in the next one.
func TestDemo(t *testing.T) {
	need(t, "sh")
	m := newMesh(t)
	cmd := exec.Command("sh", filepath.Join("greeter-go", "demo.sh"), m.bin)
	cmd.Env = m.env
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"attempt 1 starts", "attempt 2 starts", "attempt 2 ends", `"visits":1`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "attempt 1 ends") || strings.Contains(string(out), "attempt 3") {
		t.Errorf("wrong attempts in\n%s", out)
	}
}

// TestNextDay: what an application has stored is there after all of its processes, and the gateway, have ended.
func TestNextDay(t *testing.T) {
	m := newMesh(t)
	bin := greeterGo(t)
	flags := []string{"-app", "go", "-actors", "Visitor"}
	c := m.run(t.TempDir(), flags, bin)
	m.gives(`{"visits":1}`, "invoke", "-app", "go", "Visitor", "alice", "visit")
	c.stop()
	m.ok("gateway", "stop")
	if out, errs, code := m.kar("gateway", "status"); code == 0 {
		t.Fatalf("a gateway is still there: %s%s", out, errs)
	}
	m.run(t.TempDir(), flags, bin)
	m.gives(`{"visits":2}`, "invoke", "-app", "go", "Visitor", "alice", "visit")
}

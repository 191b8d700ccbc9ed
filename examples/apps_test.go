package examples_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDiningPhilosophers(t *testing.T) {
	dir := node(t, "dining-philosophers")
	m := newMesh(t)
	m.run(dir, []string{"-app", "dp", "-actors", "Cafe,Table,Fork,Philosopher"}, "node", "philosophers.js")
	m.gives(`"Cafe+de+Flore-1"`, "invoke", "-app", "dp", "Cafe", "Cafe+de+Flore", "seatTable", "3", "5")
	eventually(t, time.Minute, "the end of the meal", func() bool {
		return strings.Contains(m.ok("invoke", "-app", "dp", "Cafe", "Cafe+de+Flore", "tables"), "done")
	})
	bill := m.ok("invoke", "-app", "dp", "Table", "Cafe+de+Flore-1", "bill")
	for guest := range 3 {
		if want := fmt.Sprintf(`"Cafe+de+Flore-1.%d":5`, guest); !strings.Contains(bill, want) {
			t.Errorf("no %q in %s", want, bill)
		}
	}
	m.says("seated", "get", "-app", "dp", "-t", "Cafe", "-i", "Cafe+de+Flore")
	m.says("Fork", "get", "-app", "dp", "-s", "sidecars")
}

func TestPubSub(t *testing.T) {
	dir := node(t, "pubsub-js")
	m := newMesh(t)
	topic := "prices"
	c := m.run(dir, []string{"-app", "stocks", "-actors", "Portfolio"}, "node", "server.js")
	m.ok("invoke", "-app", "stocks", "Portfolio", "mine", "follow", topic, `{"ACME":2,"BOLT":1}`)
	publish := func(first string) {
		m.says("published 10 prices", "run", "-app", "stocks", "-app_port", freePort(t), "--", "node", filepath.Join(dir, "market.js"), topic, "10", first)
	}
	value := func(total, seen int) func() bool {
		return func() bool {
			out := m.ok("invoke", "-app", "stocks", "Portfolio", "mine", "value")
			return strings.TrimSpace(out) == fmt.Sprintf(`{"total":%d,"seen":%d}`, total, seen)
		}
	}
	publish("1")
	eventually(t, 20*time.Second, "ten events", value(2*9+10, 10))
	c.stop() // events that come now wait for the subscriber
	publish("11")
	m.run(dir, []string{"-app", "stocks", "-actors", "Portfolio"}, "node", "server.js")
	eventually(t, 20*time.Second, "ten more events", value(2*19+20, 20))
}

// suite runs the checks of a component and reports each.
func suite(t *testing.T, m *mesh, app, service string) {
	t.Helper()
	out := m.ok("rest", "-app", app, "post", service, "run")
	var results []struct {
		Name   string
		OK     bool
		Detail string
	}
	if err := json.Unmarshal([]byte(out), &results); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(results) == 0 {
		t.Fatal("no check ran")
	}
	for _, r := range results {
		t.Run(r.Name, func(t *testing.T) {
			if !r.OK {
				t.Error(r.Detail)
			}
		})
	}
}

func TestKarSDKForNode(t *testing.T) {
	dir := node(t, filepath.Join("testdata", "kar-sdk-suite"))
	m := newMesh(t)
	m.run(dir, []string{"-app", "suite", "-service", "suite", "-actors", "Probe", "-actor_collector_interval", "1s"}, "node", "server.js")
	suite(t, m, "suite", "suite")
}

func TestKarSDKForPython(t *testing.T) {
	interpreter := python(t, filepath.Join("greeter-py", "requirements.txt"))
	dir := t.TempDir()
	copyTree(t, filepath.Join("testdata", "kar-py-suite"), dir)
	m := newMesh(t)
	m.run(dir, []string{"-app", "py", "-service", "py-suite", "-actors", "Probe"}, interpreter, "server.py")
	suite(t, m, "py", "py-suite")
}

func TestLiberty(t *testing.T) {
	need(t, "java", "mvn")
	dir := cached(t, "mvn", func(dir string) {
		copyTree(t, "liberty", dir)
		command(t, dir, "mvn", "-q", "-B", "package", "liberty:create", "liberty:deploy")
	}, filesOf(t, "liberty")...)
	m := newMesh(t)
	server := filepath.Join(dir, "target", "liberty", "wlp", "bin", "server")
	c := m.run(dir, []string{"-app", "counter", "-actors", "Counter"}, server, "run", "defaultServer")
	m.gives("5", "invoke", "-app", "counter", "Counter", "a", "add", "5")
	m.gives("12", "invoke", "-app", "counter", "Counter", "a", "add", "7")
	m.gives("12", "invoke", "-app", "counter", "Counter", "a", "ask")
	m.gives("3", "invoke", "-app", "counter", "Counter", "a", "forward", "b", "3")
	if out, errs, code := m.kar("invoke", "-app", "counter", "Counter", "a", "fail", "as told"); code == 0 || !strings.Contains(errs, "as told") {
		t.Errorf("an exception: exit code %d\n%s%s", code, out, errs)
	}
	c.stop()
	m.run(dir, []string{"-app", "counter", "-actors", "Counter"}, server, "run", "defaultServer")
	m.gives("12", "invoke", "-app", "counter", "Counter", "a", "get")
}

// filesOf lists the files of an example that make its build.
func filesOf(t *testing.T, example string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"pom.xml", "src/main/liberty/config/*", "src/main/webapp/WEB-INF/*", "src/main/java/org/example/*/*"} {
		found, err := filepath.Glob(filepath.Join(example, pattern))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	if _, err := os.Stat(filepath.Join(example, "pom.xml")); err != nil || len(list) < 4 {
		t.Fatalf("the example is not complete: %v", list)
	}
	return list
}

package gateway

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/embedded"
	"github.com/karmesh/kar/runtime/engine"
)

// fullTopics have no room for events, as long as full is set.
type fullTopics struct {
	runtime.Topics
	full atomic.Bool
}

func (t *fullTopics) Publish(ctx context.Context, topic string, e runtime.Event) (int64, error) {
	if t.full.Load() {
		return 0, runtime.Errorf(runtime.CodeDiskFull, "no room")
	}
	return t.Topics.Publish(ctx, topic, e)
}

// Health says that events are refused for want of room, until one is taken; requests go
// on, and the gateway stays ready.
func TestHealthWithoutRoomForEvents(t *testing.T) {
	disk, err := embedded.Open(t.TempDir(), embedded.Options{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	topics := &fullTopics{Topics: disk.Topics()}
	mesh, err := engine.Open(t.Context(), engine.Config{Partitions: 1, Node: "g", Mesh: "local", Logs: disk.Log, Store: disk.Store(), Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	defer mesh.Close()
	gw, err := New(Config{Mesh: mesh, Topics: topics, Version: "test", Node: "g", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, disk: disk, mesh: mesh, gw: gw}
	w.expect("PUT", "/event/t", "", 201, "")
	w.expect("GET", "//kar/health", "", 200, "OK\n")
	topics.full.Store(true)
	if status, _, h := w.send("POST", "/event/t/publish", "x"); status/100 == 2 || h.Get("Kar-Error") != "disk_full" {
		t.Fatalf("an event without room: %d %s", status, h.Get("Kar-Error"))
	}
	if status, _, h := w.send("GET", "//kar/health", ""); status != 503 || h.Get("Kar-Error") != "disk_full" {
		t.Errorf("health: %d %s", status, h.Get("Kar-Error"))
	}
	w.expect("GET", "//kar/ready", "", 200, "OK\n")
	topics.full.Store(false)
	w.expect("POST", "/event/t/publish", "x", 200, "OK")
	w.expect("GET", "//kar/health", "", 200, "OK\n")
}

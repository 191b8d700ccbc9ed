package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// P1: a tell that KAR itself ends leaves a line in the log and is counted.
func TestDeadLettersAreLoggedAndCounted(t *testing.T) {
	var text bytes.Buffer // the engine is closed before it is read
	n := open(t, t.TempDir(), 1, func(c *engine.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&text, nil))
		c.MaxAttempts = 1
	})
	attach(t, n.Mesh, runtime.HostInfo{Boot: "b", App: "app", Actors: []string{"A"}}, nil)
	tell := call("app", "A", "1", "m")
	tell.Kind = runtime.Tell
	id, err := n.Accept(within(t), tell)
	if err != nil {
		t.Fatal(err)
	}
	n.HostDown("b", "exited")
	if got := n.Stats().DeadLetters; got != 1 {
		t.Errorf("%d dead letters are counted", got)
	}
	n.close()
	if s := text.String(); !strings.Contains(s, id.String()) || !strings.Contains(s, "code=bad_answer") {
		t.Errorf("the log does not tell of it:\n%s", s)
	}
}

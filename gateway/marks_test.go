package gateway

import (
	"fmt"
	"slices"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestEachStepHasAMarkOfItsOwn: a method that stores its mark and then calls
// itself as a tail call is not taken for its own second attempt.
func TestEachStepHasAMarkOfItsOwn(t *testing.T) {
	w := newWorld(t)
	marks := make(chan string, 10)
	w.host("a", "", []string{"T"}, func(m *runtime.Invoke) runtime.Outcome {
		h := m.Header
		marks <- fmt.Sprintf("%s %s %s", h.Get("Kar-Step"), h.Get("Kar-Attempt"), h.Get("Kar-Idempotency-Key"))
		if m.Path == "/twice" {
			return runtime.Outcome{Status: 200, Body: []byte(`{"tailCall":true,"value":{"actorType":"T","actorId":"i","path":"/add","payload":"[1]"}}`)}
		}
		return value("1")
	})
	_, _, h := w.send("POST", "/actor/T/i/call/twice", "[1]")
	id := h.Get("Kar-Request-Id")
	if got, want := []string{<-marks, <-marks}, []string{"0 1 " + id + "-0", "1 1 " + id + "-1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

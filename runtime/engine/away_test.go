package engine

import (
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestOneLogAway: a log that is out of reach, however often it is tried, is no
// reason to leave others alone; several in a row are, until one answers.
func TestOneLogAway(t *testing.T) {
	o := newOwnerLoop(&Mesh{parts: make([]*partition, 64)})
	away := runtime.Errorf(runtime.CodeKafkaUnreachable, "no broker answers")
	for range 10 {
		o.reached(7, away)
	}
	if o.noneAnswers() || o.away[7].IsZero() {
		t.Error("one log that is away makes all others away")
	}
	o.reached(8, away)
	o.reached(9, away)
	if !o.noneAnswers() {
		t.Error("each log is tried by itself while none answers")
	}
	o.reached(9, errDeposed)
	if o.noneAnswers() || !o.away[9].IsZero() || o.away[8].IsZero() {
		t.Error("a log has answered")
	}
	o.reached(7, away)
	o.reached(8, away)
	if o.noneAnswers() {
		t.Error("those that are known to be away count again")
	}
}

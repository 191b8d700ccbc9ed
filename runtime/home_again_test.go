package runtime

import (
	"strings"
	"testing"
)

// A deadline that passes while there is no owner answers whoever asks again, also
// when the chain has been away and has come home.
func TestDeadlineOfChainThatCameHome(t *testing.T) {
	w := newWorld(t)
	w.setPartitions(4)
	for _, line := range []string{
		"host h1 actors=A,B", "call r1 A/1 /one deadline=5s", "answer r1 tailcall B/2 /two", "answer r1 tailcall A/1 /three",
		"advance 4s", "restart", "join h1 running=r1#2.1 instances=A/1", "jump 2s",
	} {
		w.command(line)
	}
	w.out.Reset()
	w.command("call r1 A/1 /one waiter=again")
	w.command("advance 1s")
	if got := w.out.String(); !strings.Contains(got, "reply again: 408") {
		t.Errorf("who asks after the deadline is told\n%s", got)
	}
}

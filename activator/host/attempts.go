package host

import (
	"slices"

	"github.com/karmesh/kar/runtime"
)

// attempts is the table by which an attempt runs at most once on this boot and
// its answer waits until the owner has it. The host's mutex guards it.
type attempts struct {
	table map[runtime.Attempt]*attempt
	keep  int // bytes of answers to keep
	held  int
}

// attempt is one entry: running until answer is set.
type attempt struct {
	done   bool
	answer runtime.Answer
	size   int
}

func newAttempts(keep int) attempts {
	return attempts{table: map[runtime.Attempt]*attempt{}, keep: keep}
}

// begin tells whether the attempt is to be run now; known is its entry when it
// ran or runs already.
func (t *attempts) begin(a runtime.Attempt) (known *attempt, run bool) {
	if e := t.table[a]; e != nil {
		return e, false
	}
	t.table[a] = &attempt{}
	return nil, true
}

// end records the answer. When too much is held, the outcome is dropped, which
// permits a retry; the caller still has it to send.
func (t *attempts) end(answer runtime.Answer) {
	e := t.table[answer.Attempt]
	if e == nil || e.done {
		return
	}
	e.done, e.answer = true, answer
	if answer.Outcome == nil {
		return
	}
	e.size = size(answer.Outcome)
	if t.held+e.size > t.keep {
		e.answer.Outcome, e.answer.ActivationFailed, e.size = nil, false, 0
	}
	t.held += e.size
}

func size(o *runtime.Outcome) int {
	n := 200 + len(o.Body)
	for k, vs := range o.Header {
		for _, v := range vs {
			n += len(k) + len(v) + 32
		}
	}
	return n
}

// taken forgets answers that are durable elsewhere.
func (t *attempts) taken(list []runtime.Attempt) {
	for _, a := range list {
		if e := t.table[a]; e != nil && e.done {
			t.held -= e.size
			delete(t.table, a)
		}
	}
}

// snapshot lists the finished and the running attempts of some partitions, in order of their ids.
func (t *attempts) snapshot(of func(partition uint16) bool) (finished []runtime.Answer, running []runtime.Attempt) {
	for a, e := range t.table {
		if !of(a.Partition) {
			continue
		}
		if e.done {
			finished = append(finished, e.answer)
		} else {
			running = append(running, a)
		}
	}
	slices.SortFunc(running, order)
	slices.SortFunc(finished, func(a, b runtime.Answer) int { return order(a.Attempt, b.Attempt) })
	return finished, running
}

func order(a, b runtime.Attempt) int {
	if c := slices.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	if a.Step != b.Step {
		return int(a.Step) - int(b.Step)
	}
	return int(a.Number) - int(b.Number)
}

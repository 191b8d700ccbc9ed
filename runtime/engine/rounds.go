package engine

import "github.com/karmesh/kar/runtime"

// A line is what the loop has taken and not decided yet. Events have one of their own:
// each input of theirs makes up to a hundred records, and their pumps can wait, so that
// nobody stands behind the events of hundreds of groups.
type line struct {
	ins    []runtime.Input
	at     int // in ins
	events []*runtime.DeliverEvents
	round  []runtime.Input // the last one, to be used again
}

// How many events go into one round: beside others, and when nobody else waits. One
// input goes, whatever its number.
const (
	eventsBeside = 200
	eventsAlone  = 1000
)

func (l *line) add(ins []runtime.Input) {
	if l.at == len(l.ins) {
		l.ins, l.at = l.ins[:0], 0
	}
	for _, in := range ins {
		if events, ok := in.(*runtime.DeliverEvents); ok {
			l.events = append(l.events, events)
		} else {
			l.ins = append(l.ins, in)
		}
	}
}

// others is how many wait that are no events.
func (l *line) others() int { return len(l.ins) - l.at }

func (l *line) empty() bool { return l.others()+len(l.events) == 0 }

// next takes one round out of the line. It is good until the next one.
func (l *line) next() []runtime.Input {
	n, most := roundOf(l.ins[l.at:]), eventsBeside
	if n == 0 {
		most = eventsAlone
	}
	l.round = append(l.round[:0], l.ins[l.at:l.at+n]...)
	clear(l.ins[l.at : l.at+n])
	l.at += n
	k := 0
	for events := 0; k < len(l.events); k++ {
		if events += len(l.events[k].Events); events > most && k > 0 {
			break
		}
		l.round = append(l.round, l.events[k])
	}
	clear(l.events[:k])
	if l.events = l.events[k:]; len(l.events) == 0 {
		l.events = nil
	}
	return present(l.round)
}

// rest takes all that is left.
func (l *line) rest() (ins []runtime.Input) {
	l.round = nil // somebody may be at it
	for !l.empty() {
		ins = append(ins, l.next()...)
	}
	return ins
}

// maxRound bounds the inputs of one round, so that a long queue is not one
// giant append.
const maxRound = 2000

// maxRoundBytes bounds the bodies that they bring along.
const maxRoundBytes = 64 << 20

// roundOf is how many of the inputs make one round.
func roundOf(ins []runtime.Input) (n int) {
	for size := 0; n < min(len(ins), maxRound); n++ {
		if size += bodySize(ins[n]); size > maxRoundBytes && n > 0 {
			break
		}
	}
	return n
}

// fieldWeight is what a key of a change weighs beside its value: 100,000 of them, which are
// some 100 ms of work, fill a round.
const fieldWeight = maxRoundBytes / 100_000

func bodySize(in runtime.Input) int {
	switch in := in.(type) {
	case *runtime.Submit:
		return len(in.Request.Body)
	case *runtime.StateInput:
		size := len(in.Op.Value) + fieldWeight*(len(in.Op.Sets)+len(in.Op.Removes))
		for i := range in.Op.Sets {
			size += len(in.Op.Sets[i].Value)
		}
		return size
	case *runtime.Answered:
		if in.Answer.Outcome != nil {
			return len(in.Answer.Outcome.Body)
		}
	case *runtime.Deliver:
		return len(in.Payload)
	case *runtime.BodyRead:
		return len(in.Body)
	}
	return 0
}

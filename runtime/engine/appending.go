package engine

import (
	"context"
	"errors"
	"time"

	"github.com/karmesh/kar/runtime"
)

// send is an append to the log, of which one is in flight at a time: the loop's, that of
// a claim while the loop may not know yet that its term is over, or one that finds out
// whether the log can be written.
func (p *partition) send(ctx context.Context, records [][]byte) (first, next uint64, err error) {
	select {
	case p.sending <- struct{}{}:
		defer func() { <-p.sending }()
	case <-ctx.Done():
		return 0, 0, &runtime.UnknownError{Cause: ctx.Err()}
	}
	return p.log.Append(ctx, records)
}

// append makes the records durable. While the outcome is unknown the same
// bytes go out again and nothing else.
func (p *partition) append(ctx context.Context, records [][]byte) error {
	size := 0
	for _, r := range records {
		size += len(r)
	}
	began := time.Now()
	p.bytes.Store(int64(size))
	p.appending.Store(began.UnixMilli())
	defer p.appending.Store(0)
	for again := p.m.patience(); ; {
		p.step(loopWorks)
		sent := time.Now()
		ask, cancel := p.m.writing(ctx, size)
		first, next, err := p.send(ask, records)
		cancel()
		if err == nil {
			err = p.placed(ctx, records, first, next)
		}
		if err == nil {
			if p.trouble.over(p.logger, "the log takes records again") {
				p.m.turns.back.fire()
			}
			p.m.lands.landed(true)
			p.full.Store(nil)
			p.next, p.proof = next, p.m.stamp(sent)
			p.count.appends++
			p.count.records += uint64(len(records))
			p.count.bytes += uint64(size)
			p.count.appendTime += time.Since(began)
			p.trim.appended(records, size)
			return nil
		}
		p.m.lands.landed(false)
		var unknown *runtime.UnknownError
		if !errors.As(err, &unknown) {
			if is(err, runtime.CodeDiskFull) {
				p.full.Store(&noRoom{time.Now(), asError(err)})
			}
			return err
		}
		p.m.tally.unknown.Add(1)
		p.unsure = true
		p.trouble.say(p.logger, "append outcome unknown, asking again", err)
		if time.Since(began) > appendPatience {
			p.refuseWaiting(err)
		}
		if step := p.m.writeStep(p.n, true, began); step != runtime.WriteOn {
			return &surrenderError{step, err}
		}
		if !p.pause(func() bool { return again.wait(ctx) }) {
			return err
		}
	}
}

// noRoom is when an append last found the disk full.
type noRoom struct {
	at  time.Time
	err *runtime.Error
}

// noRoomFor is how long that is said while nothing is appended.
const noRoomFor = time.Minute

// A surrenderError ends a term whose owner cannot write, while others could.
type surrenderError struct {
	step  runtime.WriteStep
	cause error
}

func (e *surrenderError) Error() string { return "gives the partition up: " + e.cause.Error() }

// appendPatience is how long requests queue behind an append that does not end.
const appendPatience = 3 * time.Second

// refuseWaiting answers the questions that queue behind an append that does not
// end: certainly nothing of them was accepted. What hosts and other partitions
// report stays, for it is not asked again.
func (p *partition) refuseWaiting(cause error) {
	p.mu.Lock()
	var asked, rest []runtime.Input
	for _, in := range p.inputs {
		if in == nil {
			continue
		}
		switch {
		case runtime.Question(in):
			asked = append(asked, in)
		case runtime.AskedAgain(in) == nil: // else it comes again
			rest = append(rest, in)
		}
	}
	p.inputs, p.gaps = rest, 0
	clear(p.queued)
	p.mu.Unlock()
	for _, in := range asked {
		refuseInput(in, runtime.Errorf(runtime.CodeUnavailable, "the log cannot be written: %v", cause))
	}
}

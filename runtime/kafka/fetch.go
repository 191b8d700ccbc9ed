package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// Fetch looks, and waits where there is nothing yet.
func (t *topics) Fetch(ctx context.Context, topic string, offset int64, limit int) (runtime.Fetched, error) {
	next := offset // as far as the topic that is meant was looked at
	for fresh := false; ; {
		nothing := runtime.Fetched{Next: next}
		at, err := t.at(ctx, topic, fresh)
		if err != nil {
			return nothing, err
		}
		got, err := t.look(ctx, at, next, limit)
		if err == nil && got.shrunk {
			if err := t.lost(ctx, topic, at, got.end); err != nil {
				return nothing, err
			}
			fresh = true
			continue
		}
		var code sarama.KError
		if errors.As(err, &code) && !misplaced(code) {
			return nothing, t.c.topicFault(err, "read the topic "+at.name)
		}
		if err != nil && code == 0 {
			return nothing, err
		}
		t.saw(at, got.end)
		switch {
		case err != nil: // it has another leader now, or is gone
			select {
			case <-ctx.Done():
				return nothing, ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
			fresh = true
			continue
		case got.Next == next && !fresh: // perhaps because the topic is another one by now
			fresh = true
			continue
		case got.Next == next:
			if err := t.tails.wait(ctx, at.addr, at.name, got.end); err != nil {
				return nothing, err
			}
			continue
		}
		// What was found belongs to the topic that is meant only if it is still that one.
		again, err := t.at(ctx, topic, true)
		switch {
		case err != nil:
			return nothing, err
		case again.id != at.id:
			fresh = false
		case len(got.Events) > 0 || got.Missing != nil:
			return got.Fetched, nil
		default:
			next, fresh = got.Next, true
		}
	}
}

// A look is the outcome of one.
type look struct {
	runtime.Fetched
	end    int64 // Kafka's offset from which more is to be waited for
	shrunk bool  // the topic has lost what it had from end on
}

// eventBytes bounds the memory of one Fetch; one event is returned whatever its size.
const eventBytes = 4 << 20

func (t *topics) look(ctx context.Context, at *eventTopic, offset int64, limit int) (got look, err error) {
	from, ended, lost := at.place(offset)
	if got.Next = at.of(from); lost {
		got.missing(ended, offset, true)
	} else if offset < at.numbers[0].Base {
		got.missing(offset, got.Next, false)
	}
	for {
		var block *sarama.FetchResponseBlock
		err := t.c.do(ctx, at.addr, func(b *sarama.Broker) (err error) {
			block, err = fetchBlock(b, at.name, 0, from, eventBytes, sarama.ReadCommitted)
			return err
		})
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			start, err := t.offset(ctx, at, sarama.OffsetOldest)
			if err != nil {
				return got, err
			}
			if got.end, err = t.offset(ctx, at, sarama.OffsetNewest); err != nil {
				return got, err
			}
			if from >= start {
				if whole, err := t.whole(ctx, at, from); err != nil || whole || from <= got.end {
					return got, err
				}
				got.shrunk = true
				got.end, err = t.shrunk(ctx, at, start, got.end)
				return got, err
			}
			got.Next = at.of(start)
			got.missing(at.of(from), got.Next, false)
			from = start
			continue
		}
		if err != nil {
			return got, err
		}
		next := got.take(block, at.numbers, from, max(limit, 1))
		if end, lost, err := t.read(ctx, at, block, next); err != nil || lost {
			return look{end: end, shrunk: lost}, err
		}
		got.Next, got.end = at.of(next), next
		if len(got.Events) > 0 || next >= block.LastStableOffset {
			return got, nil
		}
		if next == from {
			return got, runtime.Errorf(runtime.CodeUnsupported, "record %d of the topic %s is in a format that KAR does not read", from, at.name)
		}
		from = next // nothing but marks of transactions, and what was aborted
	}
}

// take takes up to limit events of a block that are not in front of from, and returns
// what comes next.
func (l *look) take(block *sarama.FetchResponseBlock, n numbers, from int64, limit int) (next int64) {
	next = from
	for _, b := range committedOf(block) {
		for _, r := range b.Records {
			at := b.FirstOffset + r.OffsetDelta
			if at < from {
				continue
			}
			if len(l.Events) == limit {
				return at
			}
			l.Events = append(l.Events, eventOf(r, n.of(at)))
		}
		next = max(next, b.LastOffset()+1)
	}
	return next
}

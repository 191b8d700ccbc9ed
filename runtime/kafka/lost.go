package kafka

import (
	"context"
	"slices"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// Kafka may lose the end of a topic: by an unclean election, or with a disk that was put
// back. It then gives out offsets again that had belonged to other records. What comes
// from there on gets numbers that are higher than all before, so that readers behind
// the loss pass over nothing.

// A piece says by how much the numbers of a topic are higher than Kafka's offsets,
// from one of these on.
type piece struct {
	From int64 `json:"from"`
	Base int64 `json:"base"`
}

// numbers are the pieces of a topic, each of which counts more than those before it.
type numbers []piece

// of is the number of what is at an offset of Kafka's.
func (n numbers) of(offset int64) int64 {
	for _, p := range slices.Backward(n) {
		if p.From <= offset {
			return p.Base + offset
		}
	}
	return n[0].Base + offset
}

// place is Kafka's offset of a number. Of one that was lost it is where the topic had lost
// its end, and ended is the number that was the first to be lost.
func (n numbers) place(number int64) (offset, ended int64, lost bool) {
	for i, p := range slices.Backward(n) {
		if number < p.Base+p.From && i > 0 {
			continue
		}
		offset = max(0, number-p.Base)
		end := offset
		for _, later := range n[i+1:] {
			end = min(end, later.From)
		}
		return end, p.Base + end, end < offset
	}
	return 0, 0, false
}

// A readTo is how far this process has read a topic, and under which leader.
type readTo struct {
	epoch int32
	end   int64 // Kafka's
}

func (t *topics) marked(id sarama.Uuid) *readTo {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, known := t.marks[id]; known {
		return &m
	}
	return nil
}

// read notes what was read. What a later leader has at offsets that were read before
// took the place of records that are lost: read then returns where that begins.
func (t *topics) read(ctx context.Context, at *eventTopic, block *sarama.FetchResponseBlock, next int64) (from int64, lost bool, err error) {
	now := readTo{end: next}
	for _, b := range batchesOf(block) {
		now.epoch = max(now.epoch, b.PartitionLeaderEpoch)
	}
	if before := t.marked(at.id); before != nil && now.epoch > before.epoch {
		if from, err = t.later(ctx, at, before.epoch, block.LogStartOffset, next); err != nil || from < before.end {
			return from, err == nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.marks[at.id]
	t.marks[at.id] = readTo{max(m.epoch, now.epoch), max(m.end, now.end)}
	return 0, false, nil
}

// shrunk is where a topic lost its end that ends in front of what was read. What was
// written since begins with the first record of a later leader than that of what is
// lost; who has not read that takes the last leader for the first, so that events may
// come again.
func (t *topics) shrunk(ctx context.Context, at *eventTopic, start, end int64) (int64, error) {
	m := t.marked(at.id)
	if m == nil || m.end <= end {
		m = &readTo{}
		if end > start {
			last, err := t.batch(ctx, at, end-1)
			if err != nil || last == nil {
				return end, err
			}
			m.epoch = last.PartitionLeaderEpoch - 1
		}
	}
	return t.later(ctx, at, m.epoch, start, end)
}

// later is where the first batch between start and end begins that a leader wrote
// behind the one of that epoch; end when there is none.
func (t *topics) later(ctx context.Context, at *eventTopic, epoch int32, start, end int64) (int64, error) {
	first := end
	for start < end {
		middle := start + (end-start)/2
		b, err := t.batch(ctx, at, middle)
		switch {
		case err != nil:
			return 0, err
		case b == nil:
			end = middle
		case b.PartitionLeaderEpoch <= epoch:
			start = b.LastOffset() + 1
		default:
			first = max(start, b.FirstOffset)
			end = min(middle, first)
		}
	}
	return first, nil
}

// batch is the first one that ends at or behind an offset, nil for none.
func (t *topics) batch(ctx context.Context, at *eventTopic, offset int64) (*sarama.RecordBatch, error) {
	var block *sarama.FetchResponseBlock
	err := t.c.do(ctx, at.addr, func(b *sarama.Broker) (err error) {
		block, err = fetchBlock(b, at.name, 0, offset, 1, sarama.ReadUncommitted)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, b := range batchesOf(block) {
		if b.LastOffset() >= offset {
			return b, nil
		}
	}
	return nil, nil
}

// whole tells whether the leader has the topic up to an offset, be it in other copies
// or not: one that is new may not know yet what is.
func (t *topics) whole(ctx context.Context, at *eventTopic, offset int64) (whole bool, err error) {
	err = t.c.do(ctx, at.addr, func(b *sarama.Broker) error {
		last, err := listOffset(b, at.name, 0, sarama.OffsetNewest, debuggingReplica)
		whole = last >= offset
		return err
	})
	return whole, err
}

// lost writes down that a topic has lost its end, and what came from there on counts
// anew. Another gateway may have done so.
func (t *topics) lost(ctx context.Context, topic string, at *eventTopic, from int64) error {
	again, err := t.at(ctx, topic, true)
	if err != nil || again.id != at.id {
		return err
	}
	now := *again
	if now.numbers, err = t.memory.lost(ctx, at, from); err != nil || len(now.numbers) <= len(again.numbers) {
		return err // others have found it, too
	}
	t.mu.Lock()
	t.known[at.name] = &now
	delete(t.marks, at.id)
	t.mu.Unlock()
	t.c.cfg.Logger.Error("a topic has lost its end: Kafka no longer holds records that it had confirmed, and events are lost; what follows is delivered",
		"topic", at.name, "end", from)
	return nil
}

// missing notes that what lies between from and to is gone.
func (l *look) missing(from, to int64, end bool) {
	if to <= from {
		return
	}
	if l.Missing == nil {
		l.Missing = &runtime.Gap{From: from}
	}
	l.Missing.To, l.Missing.End = to, l.Missing.End || end
}

package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// fetchBytes is how much one request of a Read asks for; two are in memory.
const fetchBytes = 4 << 20

// Bounds: the end is as far as all copies in sync have the log.
func (l *log) Bounds(ctx context.Context) (start, end uint64, err error) {
	s, err := l.offset(ctx, sarama.OffsetOldest)
	if err != nil {
		return 0, 0, err
	}
	e, err := l.offset(ctx, sarama.OffsetNewest)
	if err != nil {
		return 0, 0, err
	}
	return uint64(s), uint64(e), nil
}

func (l *log) offset(ctx context.Context, which int64) (offset int64, err error) {
	err = l.atLeader(ctx, func(b *sarama.Broker) error {
		offset, err = listOffset(b, l.c.topic, l.partition, which, client)
		return err
	})
	return offset, err
}

// Who asks for an offset: a client is told what all copies in sync have, and one that
// debugs what the broker has.
const (
	client           int32 = -1
	debuggingReplica int32 = -2
)

func listOffset(b *sarama.Broker, topic string, partition int32, which int64, as int32) (int64, error) {
	r := &sarama.OffsetRequest{Version: 5}
	r.SetReplicaID(as)
	r.AddBlock(topic, partition, which, 1)
	answer, err := b.GetAvailableOffsets(r)
	if err != nil {
		return 0, err
	}
	block := answer.GetBlock(topic, partition)
	if block == nil {
		return 0, errors.New("the answer does not name the partition")
	}
	if block.Err != sarama.ErrNoError {
		return 0, block.Err
	}
	return block.Offset, nil
}

// atLeader runs a request that may be repeated at the partition's leader,
// and waits for a while when there is none.
func (l *log) atLeader(ctx context.Context, request func(*sarama.Broker) error) error {
	deadline := time.Now().Add(l.c.cfg.Timeout)
	for {
		err := l.err()
		if err != nil {
			return err
		}
		addr, err := l.c.leader(ctx, l.partition)
		if err == nil {
			err = l.c.do(ctx, addr, request)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			return err
		}
		if err = l.c.topicFault(err, "read "+l.c.topic); !passing(err) || time.Now().After(deadline) {
			return err
		}
		l.c.forget(l.partition)
		if err := soon(ctx); err != nil {
			return err
		}
	}
}

// Read fetches the next part while visit looks at the one before.
func (l *log) Read(ctx context.Context, from uint64, visit func(uint64, []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	chunks := make(chan chunk)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(chunks)
		r := reading{l: l, from: from}
		for !r.bounded || r.from < r.end {
			c := r.next(ctx)
			select {
			case chunks <- c:
			case <-ctx.Done():
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	defer func() { cancel(); <-done }()
	for c := range chunks {
		if c.err != nil {
			return c.err
		}
		for _, batch := range c.batches {
			for _, r := range batch.Records {
				offset := uint64(batch.FirstOffset + r.OffsetDelta)
				if offset < c.from || offset >= c.end {
					continue
				}
				l.size.mu.Lock()
				l.size.one(offset, len(r.Value))
				l.size.mu.Unlock()
				if err := visit(offset, r.Value); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

// A reading is a Read on its way. It ends where the log did when the first
// request was answered, so that a short tail costs one round trip.
type reading struct {
	l       *log
	from    uint64 // what comes next
	end     uint64
	bounded bool // the end is known
}

// A chunk is the answer to one request of a reading, or its failure.
type chunk struct {
	from, end uint64 // what of it is meant
	batches   []*sarama.RecordBatch
	err       error
}

func (r *reading) next(ctx context.Context) chunk {
	l := r.l
	var block *sarama.FetchResponseBlock
	err := l.atLeader(ctx, func(b *sarama.Broker) (err error) {
		block, err = fetchBlock(b, l.c.topic, l.partition, int64(r.from), fetchBytes, sarama.ReadUncommitted)
		return err
	})
	if errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return chunk{err: r.astray(ctx)}
	}
	if err == nil && !r.bounded {
		err = r.bound(ctx, uint64(block.HighWaterMarkOffset))
		l.size.trim(uint64(block.LogStartOffset))
	}
	if err != nil {
		return chunk{err: err}
	}
	c := chunk{from: r.from, end: r.end, batches: batchesOf(block)}
	if r.from, c.err = l.follows(ctx, c.batches, r.from); c.err == nil && r.from == c.from && r.from < r.end {
		c.err = soon(ctx) // a new leader does not know yet how far all copies are
	}
	return c
}

// bound notes the log's end, which lies behind all that was acknowledged, and
// behind what this Read has seen; else records are gone. A leader that is new may
// need a moment to know how far all copies have the log.
func (r *reading) bound(ctx context.Context, end uint64) error {
	l, known := r.l, r.l.next.Load()
	if r.bounded {
		known = max(known, r.from)
	}
	if end < known {
		if err := l.c.refresh(ctx); err != nil { // it may be another topic
			return err
		}
	}
	for deadline := time.Now().Add(l.c.cfg.Timeout); end < known; {
		if time.Now().After(deadline) {
			if last, err := l.last(ctx); err != nil {
				return err
			} else if last >= known {
				return runtime.Errorf(runtime.CodeKafkaUnreachable, "the leader of partition %d of %s does not know whether the records from %d to %d are in all copies", l.partition, l.c.topic, end, known-1)
			}
			return l.damaged(ctx, "partition %d of %s ends at record %d, though Kafka had acknowledged all up to %d", l.partition, l.c.topic, end, known)
		}
		if err := soon(ctx); err != nil {
			return err
		}
		newest, err := l.offset(ctx, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		end = uint64(newest)
	}
	if !r.bounded {
		r.end, r.bounded = end, true
	}
	return nil
}

// last is how far the log goes at its leader, be it in other copies or not.
func (l *log) last(ctx context.Context) (end uint64, err error) {
	err = l.atLeader(ctx, func(b *sarama.Broker) error {
		offset, err := listOffset(b, l.c.topic, l.partition, sarama.OffsetNewest, debuggingReplica)
		end = uint64(offset)
		return err
	})
	return end, err
}

// astray goes on after Kafka has said that there is no such record: the log was
// trimmed meanwhile, perhaps up to behind the end, or has lost its end.
func (r *reading) astray(ctx context.Context) error {
	start, end, err := r.l.Bounds(ctx)
	switch {
	case err != nil:
		return err
	case r.from < start:
		r.from = start
		return nil
	case r.from > end:
		return r.bound(ctx, end)
	}
	return soon(ctx) // the leader has changed, and will know it
}

// soon waits for what needs a moment.
func soon(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// follows checks that the batches go on at from, and returns where they end.
func (l *log) follows(ctx context.Context, batches []*sarama.RecordBatch, from uint64) (uint64, error) {
	next := from
	for _, b := range batches {
		if b.PartialTrailingRecord {
			break
		}
		if first := uint64(b.FirstOffset); first > next {
			return from, l.damaged(ctx, "partition %d of %s lacks the records from %d to %d", l.partition, l.c.topic, next, first-1)
		}
		next = max(next, uint64(b.LastOffset())+1)
	}
	return next, nil
}

// fetchBlock asks for the records of one partition.
func fetchBlock(b *sarama.Broker, topic string, partition int32, from int64, size int32, isolation sarama.IsolationLevel) (*sarama.FetchResponseBlock, error) {
	r := &sarama.FetchRequest{Version: 11, MinBytes: 1, MaxBytes: size, SessionEpoch: -1, Isolation: isolation}
	r.AddBlock(topic, partition, from, size, -1)
	answer, err := b.Fetch(r)
	if err != nil {
		return nil, err
	}
	block := answer.GetBlock(topic, partition)
	if block == nil && answer.ThrottleTime > 0 {
		return nil, sarama.ErrThrottlingQuotaExceeded
	}
	if block == nil {
		return nil, errors.New("the answer does not name the partition")
	}
	if block.Err != sarama.ErrNoError {
		return nil, block.Err
	}
	return block, nil
}

// batchesOf leaves out what is no user's data: the marks of transactions.
func batchesOf(block *sarama.FetchResponseBlock) []*sarama.RecordBatch {
	var all []*sarama.RecordBatch
	for _, set := range block.RecordsSet {
		if b := set.RecordBatch; b != nil && !b.PartialTrailingRecord {
			if b.Control {
				b.Records = nil
			}
			all = append(all, b)
		}
	}
	return all
}

// Trim: Kafka hides the records at once and frees the space later.
func (l *log) Trim(ctx context.Context, before uint64) error {
	start, end, err := l.Bounds(ctx)
	if err != nil || before <= start {
		return err
	}
	before = min(before, end)
	err = l.atLeader(ctx, func(b *sarama.Broker) error {
		answer, err := b.DeleteRecords(&sarama.DeleteRecordsRequest{Version: 1, Timeout: l.c.cfg.Timeout, Topics: map[string]*sarama.DeleteRecordsRequestTopic{
			l.c.topic: {PartitionOffsets: map[int32]int64{l.partition: int64(before)}},
		}})
		if err != nil {
			return err
		}
		t := answer.Topics[l.c.topic]
		if t == nil || t.Partitions[l.partition] == nil {
			return errors.New("the answer does not name the partition")
		}
		if code := t.Partitions[l.partition].Err; code != sarama.ErrNoError {
			return code
		}
		return nil
	})
	if err == nil {
		l.size.trim(before)
	}
	return err
}

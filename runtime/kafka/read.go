package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
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
		offset, err = listOffset(b, l.c.topic, l.partition, which)
		return err
	})
	return offset, err
}

func listOffset(b *sarama.Broker, topic string, partition int32, which int64) (int64, error) {
	r := &sarama.OffsetRequest{Version: 5}
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Read fetches the next part while visit looks at the one before.
func (l *log) Read(ctx context.Context, from uint64, visit func(uint64, []byte) error) error {
	start, end, err := l.Bounds(ctx)
	if err != nil {
		return err
	}
	if err := l.shrunk(ctx, end); err != nil {
		return err
	}
	l.size.trim(start)
	ctx, cancel := context.WithCancel(ctx)
	chunks := make(chan chunk)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(chunks)
		l.fetch(ctx, max(from, start), end, chunks)
	}()
	defer func() { cancel(); <-done }()
	for c := range chunks {
		if c.err != nil {
			return c.err
		}
		for _, batch := range c.batches {
			for _, r := range batch.Records {
				offset := uint64(batch.FirstOffset + r.OffsetDelta)
				if offset < c.from || offset >= end {
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

// shrunk notices that records are gone whose append was acknowledged. A leader
// that is new may need a moment to know how far all copies have the log.
func (l *log) shrunk(ctx context.Context, end uint64) error {
	next := l.next.Load()
	if end >= next {
		return nil
	}
	if err := l.c.refresh(ctx); err != nil { // it may be another topic
		return err
	}
	for deadline := time.Now().Add(l.c.cfg.Timeout); end < next; {
		if time.Now().After(deadline) {
			return l.damaged(ctx, "partition %d of %s ends at record %d, though Kafka had acknowledged all up to %d", l.partition, l.c.topic, end, next)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		newest, err := l.offset(ctx, sarama.OffsetNewest)
		if err != nil {
			return err
		}
		end = uint64(newest)
	}
	return nil
}

// A chunk is the answer to one fetch request, or the end of a Read.
type chunk struct {
	from    uint64
	batches []*sarama.RecordBatch
	err     error
}

func (l *log) fetch(ctx context.Context, from, end uint64, chunks chan<- chunk) {
	for from < end {
		c := chunk{from: from}
		c.batches, c.err = l.fetchOne(ctx, from)
		if c.err == nil {
			from, c.err = l.follows(ctx, c.batches, from)
		}
		if errors.Is(c.err, sarama.ErrOffsetOutOfRange) { // trimmed meanwhile, or gone
			start, now, err := l.Bounds(ctx)
			if err == nil && from < start { // perhaps up to behind the end
				from = start
				continue
			}
			if err == nil && from > now {
				err = l.damaged(ctx, "partition %d of %s ends at record %d and had record %d before", l.partition, l.c.topic, now, end-1)
			}
			if err == nil { // the leader has changed, and will know it soon
				select {
				case <-ctx.Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			c.err = err
		}
		select {
		case chunks <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

func (l *log) fetchOne(ctx context.Context, from uint64) (batches []*sarama.RecordBatch, err error) {
	err = l.atLeader(ctx, func(b *sarama.Broker) error {
		block, err := fetchBlock(b, l.c.topic, l.partition, int64(from), fetchBytes, sarama.ReadUncommitted)
		if err == nil {
			batches = batchesOf(block)
		}
		return err
	})
	return batches, err
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

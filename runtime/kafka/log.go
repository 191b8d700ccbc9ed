package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// What Kafka's format adds to a batch, and at most to each of its records.
const (
	batchOverhead  = 61
	recordOverhead = 24
)

// A log is one partition of the mesh's topic.
//
// It appends by plain produce requests: no idempotent producer and no retries
// of the client, which would hide outcomes. A batch that is larger than
// the topic takes goes out in several requests, one after the other; when a
// later one fails, the outcome of the whole is unknown, as some of it is there.
type log struct {
	c         *Cluster
	partition int32
	size      sizes

	next   atomic.Uint64 // the log was at least this long
	damage atomic.Pointer[runtime.Error]

	mu   sync.Mutex // one Append at a time
	slow bool       // the last one was
	// doubt is the fingerprint of the batch whose outcome is not known.
	doubt   [sha256.Size]byte
	doubted bool
}

var _ runtime.Log = (*log)(nil)

// Append: other writers' records may lie between two pieces of the batch.
func (l *log) Append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(batch) == 0 {
		_, end, err := l.Bounds(ctx)
		return end, end, err
	}
	first, next, err = l.append(ctx, batch)
	if err == nil {
		l.doubted = false
		return first, next, nil
	}
	var unknown *runtime.UnknownError
	if errors.As(err, &unknown) {
		l.doubt, l.doubted = fingerprint(batch), true
		return 0, 0, err
	}
	if damage := l.err(); damage != nil {
		return 0, 0, damage // to ask again would never end
	}
	// A certain answer about this attempt says nothing about the one before.
	if l.doubted && l.doubt == fingerprint(batch) {
		return 0, 0, &runtime.UnknownError{Cause: err}
	}
	return 0, 0, err
}

// MaxRecord is the size in bytes of the largest record that the log takes.
func (l *log) MaxRecord() int { return l.c.MaxRecord() }

func (l *log) append(ctx context.Context, batch [][]byte) (first, next uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	limit := int(l.c.maxMessage.Load())
	if err := l.tooLarge(batch); err != nil {
		return 0, 0, err
	}
	for done := 0; done < len(batch); {
		n := fit(batch[done:], limit)
		at, err := l.produce(ctx, batch[done:done+n])
		if isTooLarge(err) && l.c.shrunk(ctx, limit) {
			limit = int(l.c.maxMessage.Load())
			if err = l.tooLarge(batch[done:]); err == nil {
				continue // in smaller pieces
			}
		}
		if err != nil {
			var unknown *runtime.UnknownError
			if done > 0 && !errors.As(err, &unknown) {
				err = &runtime.UnknownError{Cause: err}
			}
			return 0, 0, err
		}
		if known := l.next.Load(); at < known {
			return 0, 0, l.damaged(ctx, "partition %d of %s went back from record %d to %d: records that Kafka had acknowledged are gone", l.partition, l.c.topic, known, at)
		}
		l.size.add(at, batch[done:done+n])
		if done == 0 {
			first = at
		}
		next = at + uint64(n)
		l.next.Store(next)
		done += n
	}
	return first, next, nil
}

// tooLarge refuses a batch with a record that the topic does not take.
func (l *log) tooLarge(batch [][]byte) error {
	for i, r := range batch {
		if len(r) > l.c.MaxRecord() {
			return runtime.Errorf(runtime.CodeTooLarge, "record %d of the batch has %d bytes; the topic %s takes %d", i, len(r), l.c.topic, l.c.MaxRecord())
		}
	}
	return nil
}

// isTooLarge is false where the outcome is not certain.
func isTooLarge(err error) bool {
	var unknown *runtime.UnknownError
	var coded *runtime.Error
	return !errors.As(err, &unknown) && errors.As(err, &coded) && coded.Code == runtime.CodeTooLarge
}

// fit is how many of the records go into one request.
func fit(batch [][]byte, limit int) int {
	size := batchOverhead
	for i, r := range batch {
		if size += len(r) + recordOverhead; size > limit && i > 0 {
			return i
		}
	}
	return len(batch)
}

// fingerprint tells batches apart.
func fingerprint(batch [][]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, r := range batch {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(r)))
		h.Write(n[:])
		h.Write(r)
	}
	h.Sum(sum[:0])
	return sum
}

// produce appends what fits into one batch and returns the offset of its first record.
func (l *log) produce(ctx context.Context, records [][]byte) (uint64, error) {
	if err := l.err(); err != nil {
		return 0, err
	}
	addr, err := l.c.leader(ctx, l.partition)
	if err != nil {
		return 0, err
	}
	s, err := l.c.sender(addr)
	if err != nil {
		return 0, err
	}
	o := s.append(ctx, l.partition, records, l.slow)
	l.slow = o.slow
	if o.err != nil && ctx.Err() == nil || misplaced(o.code) {
		l.c.forget(l.partition)
	}
	switch {
	case o.err != nil && !o.sent:
		return 0, o.err
	case o.err != nil:
		return 0, &runtime.UnknownError{Cause: fmt.Errorf("broker %s: %w", addr, plain(o.err))}
	case o.code == sarama.ErrNoError:
		return uint64(o.offset), nil
	case neverAppended(o.code):
		return 0, l.refusal(o.code, records)
	}
	return 0, &runtime.UnknownError{Cause: fmt.Errorf("broker %s: %w", addr, o.code)}
}

// refusal is the error of a batch that was certainly not appended.
func (l *log) refusal(code sarama.KError, records [][]byte) error {
	switch code {
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge:
		return runtime.Errorf(runtime.CodeTooLarge, "Kafka refuses %d records for %s as too large: %v", len(records), l.c.topic, code)
	case sarama.ErrNotEnoughReplicas:
		return runtime.Errorf(runtime.CodeKafkaUnreachable, "too few brokers hold partition %d of %s at the moment; nothing was appended", l.partition, l.c.topic)
	}
	return l.c.topicFault(code, "append to "+l.c.topic)
}

func recordsOf(values [][]byte) []*sarama.Record {
	records := make([]sarama.Record, len(values))
	all := make([]*sarama.Record, len(values))
	for i, v := range values {
		if v == nil {
			v = []byte{} // nil is a different thing in Kafka
		}
		records[i].Value, records[i].OffsetDelta = v, int64(i)
		all[i] = &records[i]
	}
	return all
}

// request is a produce request without a batch.
func (c *Cluster) request() *sarama.ProduceRequest {
	return &sarama.ProduceRequest{Version: 7, RequiredAcks: sarama.WaitForAll, Timeout: int32((c.cfg.Timeout * 4 / 5).Milliseconds())}
}

func batchOf(records []*sarama.Record) *sarama.RecordBatch {
	now := time.Now()
	return &sarama.RecordBatch{
		Version: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		FirstTimestamp: now, MaxTimestamp: now, LastOffsetDelta: int32(len(records) - 1), Records: records,
	}
}

// damaged stops all use of this partition by this process: records that were
// acknowledged are not there any more. All partitions stop when the topic is
// another one, or when it cannot be told whether it is.
func (l *log) damaged(ctx context.Context, format string, args ...any) error {
	if err := l.c.refresh(ctx); err != nil && l.c.Err() == nil {
		return l.c.damaged(format, args...)
	}
	if l.c.Err() == nil && l.damage.CompareAndSwap(nil, runtime.Errorf(runtime.CodeDamaged, format, args...)) {
		l.c.cfg.Logger.Error("the log of a partition is damaged; nothing more is written to it", "partition", l.partition, "error", l.damage.Load())
	}
	return l.err()
}

// err is the damage that was found, if any.
func (l *log) err() error {
	if err := l.c.Err(); err != nil {
		return err
	}
	if e := l.damage.Load(); e != nil {
		return e
	}
	return nil
}

// Close: the connections belong to the Cluster.
func (l *log) Close() error { return nil }

// Size is the number of bytes of the records that this process has appended or
// read and that have not been trimmed; so it is right from the first Read of
// the whole log on. Kafka frees disk space later, by whole segments.
func (l *log) Size() int64 { return l.size.held() }

// sizes adds up the bytes of records by offset, in steps.
type sizes struct {
	mu    sync.Mutex
	total int64  // bytes of all records from marks[0] on
	end   uint64 // offset after the last one
	marks []mark
}

// A mark is how many bytes were before an offset.
type mark struct {
	offset uint64
	before int64
}

// stride is the number of bytes between two marks.
const stride = 64 << 10

func (s *sizes) add(at uint64, records [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range records {
		s.one(at+uint64(i), len(r))
	}
}

// one counts a record unless it has been counted.
func (s *sizes) one(offset uint64, n int) {
	if offset < s.end {
		return
	}
	if len(s.marks) == 0 || s.total-s.marks[len(s.marks)-1].before >= stride {
		s.marks = append(s.marks, mark{offset, s.total})
	}
	s.total += int64(n)
	s.end = offset + 1
}

// trim forgets what lies before start, to within a stride.
func (s *sizes) trim(start uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n+1 < len(s.marks) && s.marks[n+1].offset <= start {
		n++
	}
	s.marks = append(s.marks[:0:0], s.marks[n:]...)
	if start >= s.end {
		s.marks = nil
	}
}

func (s *sizes) held() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.marks) == 0 {
		return 0
	}
	return s.total - s.marks[0].before
}

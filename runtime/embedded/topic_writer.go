package embedded

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/karmesh/kar/runtime"
)

// An operation waits for its turn in the journal.
type operation struct {
	kind  byte
	topic string
	event []byte // opPublish

	// The answer, set before done is closed.
	changed bool
	offset  int64
	err     error
	done    chan struct{}
}

const (
	// topicsTrimAt is the size of the journal above which the view is flushed
	// and the journal trimmed.
	topicsTrimAt = 16 << 20
	// roundBytes is about how much one round writes.
	roundBytes = 8 << 20
)

// openTopics loads the topics and applies what the view had not kept.
func openTopics(v *view, j *journal, room *reserve) (*topics, error) {
	t := &topics{
		view: v, journal: j, room: room, deleted: make(chan struct{}, 1), byName: map[string]*topic{},
		wake: make(chan struct{}, 1), gone: make(chan struct{}), done: make(chan struct{}),
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	if err := t.replay(); err != nil {
		return nil, err
	}
	go t.write()
	ctx, cancel := context.WithCancel(context.Background())
	t.quit = cancel
	t.reclaims.Go(func() { t.reclaim(ctx) })
	return t, nil
}

func (t *topics) load() error {
	it, err := t.view.NewIter(&pebble.IterOptions{LowerBound: []byte{topicKey}, UpperBound: []byte{topicKey + 1}})
	if err != nil {
		return fault("read the view", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		topic, fits := decodeTopic(it.Value())
		if !fits {
			it.Close()
			return damaged("the folder view", "topic %q cannot be read", it.Key()[1:])
		}
		t.byName[string(it.Key()[1:])] = topic
		t.ids = max(t.ids, topic.id)
	}
	return fault("read the view", it.Close())
}

func (t *topics) replay() error {
	ctx := context.Background()
	applied, err := number(t.view.DB, []byte{journalKey})
	if err != nil {
		return err
	}
	r := t.newRound(applied)
	defer func() { r.batch.Close() }()
	err = t.journal.Read(ctx, applied, func(_ uint64, record []byte) error {
		kind, name, event, ok := decodeOp(record)
		if !ok {
			return damaged(t.journal.name, "it holds an operation of unknown kind")
		}
		if err := r.add(&operation{kind: kind, topic: name, event: event}, record); err != nil {
			return err
		}
		if r.batch.Len() < roundBytes {
			return nil
		}
		err := t.recommit(r)
		r.batch.Close()
		r = t.newRound(r.position)
		return err
	})
	if err != nil {
		return err
	}
	return t.recommit(r)
}

// recommit applies a round that the journal holds already. When the view has no room
// in memory for it, it gets what is kept for deletions: the journal is the shorter
// for it.
func (t *topics) recommit(r *round) error {
	ctx := context.Background()
	err := t.view.admit(ctx, r.batch.Len())
	if isFull(err) {
		err = t.view.flush(ctx)
	}
	if err != nil && t.room.release() {
		t.free(nil)
		err = t.view.flush(ctx)
	}
	if err != nil {
		return fault("write the view", err)
	}
	if len(r.deleted) > 0 {
		t.free(r.deleted)
	}
	return t.commit(r)
}

// submit queues the operation and waits until it is durable and applied.
func (t *topics) submit(ctx context.Context, op *operation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op.done = make(chan struct{})
	t.mu.Lock()
	if t.shut {
		t.mu.Unlock()
		return closed()
	}
	t.queue = append(t.queue, op)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
	<-op.done // rounds are short; a durable operation must not look refused
	return op.err
}

// write is the one goroutine that changes topics: everything that waits goes
// out in one append, so that concurrent publishers share its sync.
func (t *topics) write() {
	defer close(t.done)
	for {
		select {
		case <-t.wake:
		case <-t.gone:
		}
		t.mu.Lock()
		ops, shut := t.queue, t.shut
		t.queue = nil
		t.mu.Unlock()
		for len(ops) > 0 {
			n, size := 0, 0
			for n < len(ops) && (n == 0 || size+len(ops[n].event) < roundBytes) {
				size += len(ops[n].event)
				n++
			}
			t.round(ops[:n])
			ops = ops[n:]
		}
		if shut {
			return
		}
	}
}

// round makes the operations durable, applies them, and answers them. When there is
// no room for all, the deletions among them go alone, with the room that is kept for
// them.
func (t *topics) round(ops []*operation) {
	r, err := t.tryRound(ops)
	if isFull(err) {
		var deletions []*operation
		for _, op := range ops {
			if op.kind == opDelete {
				deletions = append(deletions, op)
			} else if op.err == nil {
				op.err = err
			}
		}
		if len(deletions) > 0 && len(deletions) < len(ops) {
			r.batch.Close()
			r, err = t.tryRound(deletions)
		}
		if isFull(err) && len(deletions) > 0 && t.room.release() {
			r.batch.Close()
			r, err = t.tryRound(deletions)
		}
	}
	defer func() { r.batch.Close() }()
	if err == nil && len(r.deleted) > 0 {
		t.free(r.deleted)
	}
	for _, op := range ops {
		if op.err == nil {
			op.err = err
		}
		close(op.done)
	}
	if err == nil && t.journal.Size() > topicsTrimAt {
		t.trim(r.position)
	}
}

func (t *topics) tryRound(ops []*operation) (*round, error) {
	_, end, err := t.journal.Bounds(context.Background())
	r := t.newRound(end)
	for _, op := range ops {
		op.err = nil
		if err == nil {
			err = r.add(op, nil)
		}
	}
	if err == nil && slices.ContainsFunc(ops, func(op *operation) bool { return op.kind != opDelete }) {
		if err = t.room.spare(); err == nil {
			err = t.view.admit(context.Background(), r.batch.Len())
		}
	}
	if err == nil && len(r.records) > 0 {
		if _, _, err = t.journal.Append(context.Background(), r.records); err == nil {
			err = t.commit(r)
		}
	}
	return r, err
}

// trim waits for no view that cannot be written, or nothing could be deleted. Its
// failures are tried again after a later round; the flush that goes
// before is the only thing that matters.
func (t *topics) trim(applied uint64) {
	if t.view.flushFault.Load() == nil && t.view.flush(context.Background()) == nil && t.journal.promise(applied) == nil {
		_ = t.journal.Trim(context.Background(), applied)
	}
}

// A round collects operations: their records, and what they do to the view.
type round struct {
	topics   *topics
	records  [][]byte
	batch    *pebble.Batch
	touched  map[string]*topic
	ids      uint64
	position uint64 // of the journal, behind the records so far
	deleted  []span
}

func (t *topics) newRound(position uint64) *round {
	return &round{topics: t, batch: t.view.NewBatch(), touched: map[string]*topic{}, ids: t.ids, position: position}
}

// topic is the state of a topic after the round's earlier operations; nil when it never existed.
func (r *round) topic(name string) *topic {
	if r.touched[name] == nil {
		if known := r.topics.byName[name]; known != nil {
			r.touched[name] = &topic{id: known.id, exists: known.exists, start: known.start, next: known.next}
		}
	}
	return r.touched[name]
}

// add decides one operation. It is a function of what the journal holds before
// it, so a replay decides the same; record is nil when it is new.
func (r *round) add(op *operation, record []byte) error {
	topic := r.topic(op.topic)
	exists := topic != nil && topic.exists
	var err error
	switch op.kind {
	case opCreate:
		op.changed = !exists
		if topic == nil {
			r.ids++
			topic = newTopic(r.ids)
			r.touched[op.topic] = topic
		}
		topic.exists = true
	case opDelete:
		if op.changed = exists; exists {
			err = r.batch.DeleteRange(eventAt(topic.id, topic.start), eventAt(topic.id, topic.next), nil)
			r.deleted = append(r.deleted, span{topic.id, topic.next})
			topic.exists, topic.start = false, topic.next
		}
	case opPublish:
		if op.changed = exists; !exists {
			op.err = missing(op.topic)
			break
		}
		op.offset = topic.next
		topic.next++
		err = r.batch.Set(eventAt(topic.id, op.offset), op.event, nil)
	}
	if record != nil || op.changed {
		r.position++
		r.records = append(r.records, encodeOp(op.kind, op.topic, op.event))
	}
	return fault("write the view", err)
}

func newTopic(id uint64) *topic { return &topic{id: id} }

// commit applies a round to the view and to memory, and wakes who waits.
func (t *topics) commit(r *round) error {
	for name, topic := range r.touched {
		if err := r.batch.Set(append([]byte{topicKey}, name...), topic.encode(), nil); err != nil {
			return fault("write the view", err)
		}
	}
	if err := r.batch.Set([]byte{journalKey}, binary.BigEndian.AppendUint64(nil, r.position), nil); err != nil {
		return fault("write the view", err)
	}
	if err := r.batch.Commit(pebble.NoSync); err != nil {
		return &runtime.UnknownError{Cause: fault("write the view", err)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = r.ids
	for name, topic := range r.touched {
		if before := t.byName[name]; before != nil && before.changed != nil {
			close(before.changed)
		}
		t.byName[name] = topic
	}
	return nil
}

// shutdown answers what is queued and ends the writer.
func (t *topics) shutdown() {
	t.mu.Lock()
	if !t.shut {
		t.shut = true
		close(t.gone)
	}
	t.mu.Unlock()
	<-t.done
	t.quit()
	t.reclaims.Wait()
}

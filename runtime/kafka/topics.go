package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// topics are the event topics: Kafka's, under their own names, so that other
// programs can write and read them. One has one partition. Those with several
// are refused; of one that got more later, the first is gone on with.
//
// Offsets are Kafka's plus a base, which is 0 for the first topic of a name and
// makes a later one go on counting (see memory), also one that has lost its end.
type topics struct {
	c      *Cluster
	memory memory
	tails  tails

	mu    sync.Mutex
	known map[string]*eventTopic // by Kafka's name
	marks map[sarama.Uuid]readTo
	wide  map[sarama.Uuid]bool // of which the log has said that they got more partitions
}

// An eventTopic is what was true of a topic when it was last looked at.
type eventTopic struct {
	name string // Kafka's
	id   sarama.Uuid
	numbers
	addr string // of the leader

	// Under topics.mu:
	seen    int64     // the highest end that this process knows
	checked time.Time // when it was known to be this topic
}

// stale is how long a topic may have been another one without Publish noticing.
const stale = 100 * time.Millisecond

var _ runtime.Topics = (*topics)(nil)

func newTopics(c *Cluster) *topics {
	t := &topics{c: c, known: map[string]*eventTopic{}, marks: map[sarama.Uuid]readTo{}, wide: map[sarama.Uuid]bool{}}
	t.memory.c, t.memory.forget, t.tails.c = c, t.forgetAll, c
	return t
}

// Close is for the gateway; the connections belong to the Cluster.
func (t *topics) Close() error { return nil }

func missing(name string) error {
	return runtime.Errorf(runtime.CodeTopicMissing, "there is no topic %q", name)
}

func (t *topics) Create(ctx context.Context, topic string) (bool, error) {
	name, err := t.c.cfg.kafkaName(topic)
	if err != nil {
		return false, err
	}
	answer, err := t.c.metadata(ctx, name)
	if err != nil {
		return false, err
	}
	if _, err := topicOf(answer, name); err == nil {
		return false, nil
	}
	copies := t.c.copies(answer)
	created, err := t.c.create(ctx, name, 1, copies, map[string]string{
		"max.message.bytes":   fmt.Sprint(t.c.cfg.maxMessage()),
		"min.insync.replicas": t.c.cfg.wanted(copies)["min.insync.replicas"],
	})
	if err != nil || !created {
		return false, err
	}
	meta, err := t.c.settled(ctx, name, 1)
	if err != nil {
		return true, err
	}
	_, err = t.memory.numbers(ctx, name, meta.Uuid)
	return true, err
}

// Delete waits until the topic is gone, which Kafka does later than it says.
func (t *topics) Delete(ctx context.Context, topic string) (bool, error) {
	name, err := t.c.cfg.kafkaName(topic)
	if err != nil {
		return false, err
	}
	answer, err := t.c.metadata(ctx, name)
	if err != nil {
		return false, err
	}
	meta, err := topicOf(answer, name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return false, nil
	}
	if err != nil {
		return false, t.c.topicFault(err, "describe the topic "+name)
	}
	if err := t.note(ctx, topic); err != nil {
		return false, err
	}
	existed := true
	err = t.c.anyBroker(ctx, func(b *sarama.Broker) error {
		answer, err := b.DeleteTopics(&sarama.DeleteTopicsRequest{Version: 4, Topics: []string{name}, Timeout: t.c.cfg.Timeout})
		if err != nil {
			return err
		}
		switch code := answer.TopicErrorCodes[name]; code {
		case sarama.ErrNoError:
		case sarama.ErrUnknownTopicOrPartition:
			existed = false
		default:
			return code
		}
		return nil
	})
	if err != nil {
		return false, t.c.topicFault(err, "delete the topic "+name)
	}
	err = t.vanished(ctx, name, meta.Uuid)
	t.forget(name)
	t.tails.wake(name)
	return existed, err
}

// note writes down where the next topic of the name begins to count.
func (t *topics) note(ctx context.Context, topic string) error {
	at, err := t.at(ctx, topic, true)
	var refused *runtime.Error
	if errors.As(err, &refused) && refused.Code == runtime.CodeUnsupported {
		return nil
	}
	if err != nil {
		return err
	}
	end, err := t.offset(ctx, at, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	return t.memory.ended(ctx, at, at.of(end))
}

func (t *topics) vanished(ctx context.Context, name string, id sarama.Uuid) error {
	wait, cancel := context.WithTimeout(ctx, 3*t.c.cfg.Timeout)
	defer cancel()
	for {
		answer, err := t.c.metadata(wait, name)
		if err == nil {
			meta, err := topicOf(answer, name)
			if errors.Is(err, sarama.ErrUnknownTopicOrPartition) || err == nil && meta.Uuid != id {
				return nil
			}
		}
		select {
		case <-wait.Done():
			return runtime.Errorf(runtime.CodeKafkaUnreachable, "the topic %s is being deleted, and is still there", name)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// List leaves out Kafka's own topics and those of meshes.
func (t *topics) List(ctx context.Context) ([]string, error) {
	answer, err := t.c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, meta := range answer.Topics {
		if name, ok := t.c.cfg.eventName(meta.Name); ok && !meta.IsInternal {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// existingNamed is up to how many names are asked for by name.
const existingNamed = 200

// Existing is one request. A topic of which Kafka tells an error, such as a missing
// permission, counts: who reads it finds out.
func (t *topics) Existing(ctx context.Context, topics []string) ([]string, error) {
	wanted := make(map[string]string, len(topics))
	for _, topic := range topics {
		if name, err := t.c.cfg.kafkaName(topic); err == nil {
			wanted[name] = topic
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	var named []string
	if len(wanted) <= existingNamed {
		named = slices.Sorted(maps.Keys(wanted))
	}
	answer, err := t.c.metadata(ctx, named...)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, meta := range answer.Topics {
		if topic, ok := wanted[meta.Name]; ok && meta.Err != sarama.ErrUnknownTopicOrPartition {
			found = append(found, topic)
		}
	}
	return found, nil
}

func (t *topics) Publish(ctx context.Context, topic string, e runtime.Event) (int64, error) {
	if size := eventSize(e); size > t.c.cfg.maxMessage() {
		return 0, runtime.Errorf(runtime.CodeTooLarge, "the event has %d bytes; topics take %d", size, t.c.cfg.maxMessage())
	}
	for try := 0; ; try++ {
		at, err := t.at(ctx, topic, try > 0)
		if err != nil {
			return 0, err
		}
		offset, err := t.c.produce(ctx, at.addr, at.name, 0, []*sarama.Record{recordOf(e)})
		var code sarama.KError
		switch {
		case err == nil && t.doubtful(at, offset):
			if at, err = t.at(ctx, topic, true); err != nil {
				return 0, err
			}
			t.saw(at, offset+1)
			return at.of(offset), nil
		case err == nil:
			return at.of(offset), nil
		case !errors.As(err, &code):
			t.forget(at.name)
			return 0, err
		case !misplaced(code) || try == 20:
			return 0, t.publishFault(code, at.name)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Duration(try) * 10 * time.Millisecond):
		}
	}
}

func (t *topics) publishFault(code sarama.KError, name string) error {
	switch {
	case code == sarama.ErrMessageSizeTooLarge || code == sarama.ErrMessageSetSizeTooLarge:
		return runtime.Errorf(runtime.CodeTooLarge, "the event is larger than the topic %s takes", name)
	case neverAppended(code):
		return t.c.topicFault(code, "publish to "+name)
	}
	return runtime.Errorf(runtime.CodeUnknownOutcome, "Kafka did not confirm an event for %s: %v", name, code)
}

// doubtful tells whether the topic that took an event at an offset may be another
// one than at.
func (t *topics) doubtful(at *eventTopic, offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := at.seen
	at.seen = max(before, offset+1)
	return offset < before || time.Since(at.checked) > stale
}

// saw remembers how far a topic goes.
func (t *topics) saw(at *eventTopic, end int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at.seen = max(at.seen, end)
}

func (t *topics) Bounds(ctx context.Context, topic string) (start, end int64, err error) {
	at, err := t.at(ctx, topic, true)
	if err != nil {
		return 0, 0, err
	}
	if start, err = t.offset(ctx, at, sarama.OffsetOldest); err != nil {
		return 0, 0, err
	}
	if end, err = t.offset(ctx, at, sarama.OffsetNewest); err != nil {
		return 0, 0, err
	}
	return at.of(start), at.of(end), nil
}

func (t *topics) offset(ctx context.Context, at *eventTopic, which int64) (offset int64, err error) {
	err = t.c.do(ctx, at.addr, func(b *sarama.Broker) error {
		offset, err = listOffset(b, at.name, 0, which, client)
		return err
	})
	if err != nil {
		err = t.c.topicFault(err, "read the topic "+at.name)
	}
	return offset, err
}

// at is the state of a topic; fresh asks Kafka whether it is still so.
func (t *topics) at(ctx context.Context, topic string, fresh bool) (*eventTopic, error) {
	name, err := t.c.cfg.kafkaName(topic)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	known := t.known[name]
	t.mu.Unlock()
	if known != nil && !fresh {
		return known, nil
	}
	meta, addr, err := t.find(ctx, name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.forget(name)
		return nil, missing(topic)
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	known = t.known[name] // the memory may have been lost
	t.mu.Unlock()
	if n := len(meta.Partitions); n > 1 {
		if err := t.widened(ctx, name, meta.Uuid, n); err != nil {
			return nil, err
		}
	}
	if known != nil && known.id == meta.Uuid && known.addr == addr {
		t.mu.Lock()
		known.checked = time.Now()
		t.mu.Unlock()
		return known, nil
	}
	now := &eventTopic{name: name, id: meta.Uuid, addr: addr, checked: time.Now()}
	if known != nil && known.id == meta.Uuid {
		now.numbers = known.numbers
	} else if now.numbers, err = t.memory.numbers(ctx, name, meta.Uuid); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.known[name] = now
	t.mu.Unlock()
	return now, nil
}

// widened refuses a topic with several partitions, unless it had one when it was
// used first. Then the first is read on and written to, so that nothing stops; what
// others write to the rest stays there, which the log says once.
func (t *topics) widened(ctx context.Context, name string, id sarama.Uuid, partitions int) error {
	t.mu.Lock()
	said := t.wide[id]
	t.mu.Unlock()
	if said {
		return nil
	}
	had, err := t.memory.knows(ctx, name, id)
	if err != nil {
		return err
	}
	if !had {
		return runtime.Errorf(runtime.CodeUnsupported, "the topic %s has %d partitions; KAR reads and writes topics with one", name, partitions)
	}
	t.mu.Lock()
	said, t.wide[id] = t.wide[id], true
	t.mu.Unlock()
	if !said {
		t.c.cfg.Logger.Error("a topic of events has more than one partition now: events in the others are not delivered; make a topic with one partition in its place", "topic", name, "partitions", partitions)
	}
	return nil
}

// find asks for a topic and the leader of its first partition. A topic of which another gateway has
// just told may not be known everywhere yet, and a leader may be missing for
// a moment: both are waited for.
func (t *topics) find(ctx context.Context, name string) (*sarama.TopicMetadata, string, error) {
	began := time.Now()
	for {
		answer, err := t.c.metadata(ctx, name, t.c.cfg.offsetsTopic())
		if err == nil {
			err = t.memory.look(ctx, answer)
		}
		if err != nil {
			return nil, "", err
		}
		patience := t.c.cfg.Timeout
		meta, err := topicOf(answer, name)
		if err == nil {
			for _, p := range meta.Partitions {
				for _, b := range answer.Brokers {
					if p.ID == 0 && b.ID() == p.Leader {
						return meta, b.Addr(), nil
					}
				}
			}
			err = runtime.Errorf(runtime.CodeKafkaUnreachable, "the topic %s has no leader at the moment", name)
		} else if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			patience = 500 * time.Millisecond
			if exists, e := t.memory.exists(ctx, name); e != nil {
				return nil, "", e
			} else if !exists {
				return nil, "", err
			}
		} else {
			return nil, "", t.c.topicFault(err, "describe the topic "+name)
		}
		if time.Since(began) > patience {
			return nil, "", err
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (t *topics) forgetAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.known)
}

func (t *topics) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, name)
}

// topicLanes is the number of connections to a broker for events.
const topicLanes = 4

// produce sends records to a topic other than the log, over lanes of their own.
// An answer of the broker comes back as a sarama.KError.
func (c *Cluster) produce(ctx context.Context, addr, topic string, partition int32, records []*sarama.Record) (int64, error) {
	h := fnv.New32a()
	h.Write([]byte(topic))
	lane := c.lane(addr, int(h.Sum32()%topicLanes))
	conn, err := lane.get(ctx)
	if err != nil {
		return 0, err
	}
	r := c.request()
	r.AddBatch(topic, partition, batchOf(records))
	answer, err := c.send(ctx, conn, r)
	if err != nil {
		if ctx.Err() == nil {
			lane.drop(conn)
		}
		return 0, runtime.Errorf(runtime.CodeUnknownOutcome, "the broker at %s did not confirm what was sent for %s: %v", addr, topic, plain(err))
	}
	if wait, keep := c.throttled(conn); wait > 0 {
		if !keep {
			lane.drop(conn)
		}
		c.rest(ctx, wait)
	}
	block := answer.GetBlock(topic, partition)
	if block == nil {
		return 0, runtime.Errorf(runtime.CodeUnknownOutcome, "the broker at %s answered without naming the topic", addr)
	}
	if block.Err != sarama.ErrNoError {
		return 0, block.Err
	}
	return block.Offset, nil
}

func recordOf(e runtime.Event) *sarama.Record {
	r := &sarama.Record{Value: e.Body}
	if r.Value == nil {
		r.Value = []byte{} // nil would delete the key of a compacted topic
	}
	if len(e.Key) > 0 {
		r.Key = e.Key
	}
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		for _, value := range e.Header[name] {
			r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
	}
	return r
}

func eventSize(e runtime.Event) int {
	n := batchOverhead + recordOverhead + len(e.Key) + len(e.Body)
	for name, values := range e.Header {
		for _, v := range values {
			n += len(name) + len(v) + 10
		}
	}
	return n
}

func eventOf(r *sarama.Record, offset int64) runtime.Event {
	e := runtime.Event{Offset: offset, Key: r.Key, Body: r.Value}
	for _, h := range r.Headers {
		if e.Header == nil {
			e.Header = runtime.Header{}
		}
		e.Header[string(h.Key)] = append(e.Header[string(h.Key)], string(h.Value))
	}
	return e
}

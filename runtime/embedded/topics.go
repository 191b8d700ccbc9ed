package embedded

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/karmesh/kar/runtime"
)

// topics keeps the logs of events: operations go to a journal, are durable
// there, and are then applied to the view, from which events are read.
type topics struct {
	view    *view
	journal *journal

	mu     sync.Mutex
	byName map[string]*topic // also deleted ones, whose numbers go on
	ids    uint64            // highest number of a topic
	queue  []*operation
	wake   chan struct{} // one element: the queue is not empty
	shut   bool
	gone   chan struct{} // closed when shut
	done   chan struct{} // closed when the writer has ended

	room     *reserve
	freed    []span        // deleted events that still take room
	deleted  chan struct{} // one element: there is work for reclaim
	quit     context.CancelFunc
	reclaims sync.WaitGroup
}

// A topic as the view holds it.
type topic struct {
	id      uint64
	exists  bool
	start   int64
	next    int64
	changed chan struct{} // closed at the next event or deletion; nil while nobody waits
}

var _ runtime.Topics = (*topics)(nil)

func (t *topics) Create(ctx context.Context, name string) (bool, error) {
	op := &operation{kind: opCreate, topic: name}
	err := t.submit(ctx, op)
	return op.changed, err
}

func (t *topics) Delete(ctx context.Context, name string) (bool, error) {
	op := &operation{kind: opDelete, topic: name}
	err := t.submit(ctx, op)
	return op.changed, err
}

func (t *topics) Publish(ctx context.Context, name string, e runtime.Event) (int64, error) {
	op := &operation{kind: opPublish, topic: name, event: encodeEvent(e)}
	err := t.submit(ctx, op)
	return op.offset, err
}

func (t *topics) List(context.Context) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := []string{}
	for name, topic := range t.byName {
		if topic.exists {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (t *topics) Existing(_ context.Context, topics []string) (found []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range topics {
		if topic := t.byName[name]; topic != nil && topic.exists {
			found = append(found, name)
		}
	}
	return found, nil
}

func (t *topics) Bounds(_ context.Context, name string) (start, end int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	topic := t.byName[name]
	if topic == nil || !topic.exists {
		return 0, 0, missing(name)
	}
	return topic.start, topic.next, nil
}

func (t *topics) Fetch(ctx context.Context, name string, offset int64, limit int) (runtime.Fetched, error) {
	got := runtime.Fetched{Next: offset}
	for {
		t.mu.Lock()
		if t.shut {
			t.mu.Unlock()
			return got, closed()
		}
		topic := t.byName[name]
		if topic == nil || !topic.exists {
			t.mu.Unlock()
			return got, missing(name)
		}
		from := max(offset, topic.start)
		if from > offset {
			got.Missing = &runtime.Gap{From: offset, To: from}
		}
		if from < topic.next {
			id, next := topic.id, topic.next
			t.mu.Unlock()
			events, err := t.events(id, from, next, limit)
			if err != nil {
				return runtime.Fetched{Next: offset}, err
			}
			if n := len(events); n > 0 {
				got.Events, got.Next = events, events[n-1].Offset+1
				return got, nil
			}
			continue // deleted in this instant
		}
		if got.Missing != nil {
			t.mu.Unlock()
			got.Next = from
			return got, nil
		}
		if topic.changed == nil {
			topic.changed = make(chan struct{})
		}
		changed := topic.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-t.gone:
		case <-ctx.Done():
			return got, ctx.Err()
		}
	}
}

// fetchBytes bounds the memory of one Fetch; one event is returned whatever its size.
const fetchBytes = 8 << 20

func (t *topics) events(id uint64, from, next int64, limit int) ([]runtime.Event, error) {
	it, err := t.view.NewIter(&pebble.IterOptions{LowerBound: eventAt(id, from), UpperBound: eventAt(id, next)})
	if err != nil {
		return nil, fault("read the view", err)
	}
	var events []runtime.Event
	size := 0
	for ok := it.First(); ok && len(events) < max(limit, 1) && size < fetchBytes; ok = it.Next() {
		offset := int64(binary.BigEndian.Uint64(it.Key()[9:]))
		e, fits := decodeEvent(it.Value(), offset)
		if !fits {
			it.Close()
			return nil, damaged("the folder view", "event %d of topic number %d cannot be read", offset, id)
		}
		size += len(it.Value())
		events = append(events, e)
	}
	return events, fault("read the view", it.Close())
}

// Close is for the gateway; the journal stays open until the folder is closed.
func (t *topics) Close() error { return nil }

func missing(name string) error {
	return runtime.Errorf(runtime.CodeTopicMissing, "there is no topic %q", name)
}

func eventAt(id uint64, offset int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{eventKey}, id), uint64(offset))
}

func (t *topic) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, t.id)
	if t.exists {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(t.start))
	return binary.BigEndian.AppendUint64(b, uint64(t.next))
}

func decodeTopic(b []byte) (*topic, bool) {
	if len(b) != 25 {
		return nil, false
	}
	t := &topic{
		id:     binary.BigEndian.Uint64(b),
		exists: b[8] == 1,
		start:  int64(binary.BigEndian.Uint64(b[9:])),
		next:   int64(binary.BigEndian.Uint64(b[17:])),
	}
	return t, t.start <= t.next && t.next < math.MaxInt64
}

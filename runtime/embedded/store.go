package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/karmesh/kar/runtime"
)

// A store is the view of the partitions' logs.
type store struct {
	view       *view
	partitions []*partition
	now        func() time.Time
}

// A partition serialises the writes to its part of the view.
type partition struct {
	mu      sync.Mutex
	applied uint64
	durable uint64 // what Sync has returned
	journal *journal
}

var _ runtime.Store = (*store)(nil)

// openStore reads the positions.
func openStore(v *view, journals []*journal, now func() time.Time) (*store, error) {
	s := &store{view: v, now: now}
	for i, j := range journals {
		applied, err := number(v.DB, positionKey(uint16(i)))
		if err != nil {
			return nil, err
		}
		s.partitions = append(s.partitions, &partition{applied: applied, durable: applied, journal: j})
	}
	return s, nil
}

func positionKey(partition uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{appliedKey}, partition)
}

func (s *store) partition(p uint16) (*partition, error) {
	if int(p) >= len(s.partitions) {
		return nil, runtime.Errorf(runtime.CodeInternal, "there is no partition %d", p)
	}
	return s.partitions[p], nil
}

func (s *store) Apply(ctx context.Context, number uint16, from, to uint64, writes []runtime.Mutation) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p, err := s.partition(number)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.applied != from {
		return p.applied, nil
	}
	size := 0
	for _, m := range writes {
		size += len(m.Key) + len(m.Value)
	}
	if err := s.view.admit(ctx, size); err != nil {
		return 0, err
	}
	b := s.view.NewBatch()
	defer b.Close()
	for i, m := range writes {
		if err := s.add(b, number, m, writes[:i]); err != nil {
			return 0, err
		}
	}
	if err := b.Set(positionKey(number), binary.BigEndian.AppendUint64(nil, to), nil); err != nil {
		return 0, fault("write the view", err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return 0, fault("write the view", err)
	}
	p.applied = to
	return to, nil
}

// add puts one mutation into the batch; earlier are those before it.
func (s *store) add(b *pebble.Batch, number uint16, m runtime.Mutation, earlier []runtime.Mutation) error {
	key := storeKey(number, m.Key)
	var err error
	switch {
	case m.Prefix:
		err = s.addPrefix(b, number, key, m, earlier)
	case m.Value == nil:
		err = b.Delete(key, nil)
	default:
		if err = b.Set(key, sealValue(m.Value, m.Expires), nil); err == nil && m.Expires != 0 {
			err = b.Set(expiresKey(m.Expires, key), nil, nil)
		}
	}
	return fault("write the view", err)
}

// fewKeys is up to how many keys a prefix is deleted key by key: a range
// deletion is one entry whatever it covers, but slows every read until the
// next compaction.
const fewKeys = 64

func (s *store) addPrefix(b *pebble.Batch, number uint16, key []byte, m runtime.Mutation, earlier []runtime.Mutation) error {
	for _, e := range earlier {
		if !e.Prefix && bytes.HasPrefix(e.Key, m.Key) {
			if err := b.Delete(storeKey(number, e.Key), nil); err != nil {
				return err
			}
		}
	}
	it, err := s.view.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: keyAfter(key)})
	if err != nil {
		return err
	}
	n := 0
	for ok := it.First(); ok && n < fewKeys; ok = it.Next() {
		if err := b.Delete(it.Key(), nil); err != nil {
			it.Close()
			return err
		}
		n++
	}
	if err := it.Close(); err != nil || n < fewKeys {
		return err
	}
	return b.DeleteRange(key, keyAfter(key), nil)
}

func (s *store) Applied(_ context.Context, number uint16) (uint64, error) {
	p, err := s.partition(number)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied, nil
}

// Sync flushes the view when anything was applied since the last time.
func (s *store) Sync(ctx context.Context, number uint16) (uint64, error) {
	p, err := s.partition(number)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	applied, durable := p.applied, p.durable
	p.mu.Unlock()
	if applied == durable {
		return durable, nil
	}
	if err := s.view.flush(ctx); err != nil {
		return 0, fault("flush the view", err)
	}
	if err := p.journal.promise(applied); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.durable = max(p.durable, applied)
	return applied, nil
}

// Close is for the engine; the view stays open until the folder is closed.
func (s *store) Close() error { return nil }

func storeKey(partition uint16, key []byte) []byte {
	b := make([]byte, 0, 3+len(key))
	return append(binary.BigEndian.AppendUint16(append(b, entryKey), partition), key...)
}

// expiresKey is the note that the entry under a store key ends at second.
func expiresKey(second int64, storeKey []byte) []byte {
	b := make([]byte, 0, 8+len(storeKey))
	return append(binary.BigEndian.AppendUint64(append(b, expiryKey), uint64(second)), storeKey[1:]...)
}

// sealValue puts 0, or 1 and the second of expiry, before the value.
func sealValue(value []byte, expires int64) []byte {
	if expires == 0 {
		return append([]byte{0}, value...)
	}
	b := make([]byte, 0, 9+len(value))
	return append(binary.BigEndian.AppendUint64(append(b, 1), uint64(expires)), value...)
}

// openValue undoes sealValue; live is false for an entry that has expired.
func openValue(b []byte, now int64) (value []byte, expires int64, live bool) {
	if len(b) >= 9 && b[0] == 1 {
		expires = int64(binary.BigEndian.Uint64(b[1:]))
		return b[9:], expires, expires > now
	}
	if len(b) == 0 {
		return nil, 0, false
	}
	return b[1:], 0, true
}

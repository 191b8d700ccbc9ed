package embedded

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/karmesh/kar/runtime"
)

// A snapshot is one partition of the view at one moment.
type snapshot struct {
	reader    *pebble.Snapshot
	partition uint16
	applied   uint64
	now       int64 // Unix second that decides what has expired
}

func (s *store) Read(_ context.Context, number uint16, fn func(runtime.Snapshot) error) error {
	p, err := s.partition(number)
	if err != nil {
		return err
	}
	p.mu.Lock() // so that position and content belong together
	snap := &snapshot{reader: s.view.NewSnapshot(), partition: number, applied: p.applied, now: s.now().Unix()}
	p.mu.Unlock()
	defer snap.reader.Close()
	return fn(snap)
}

func (s *snapshot) Applied() uint64 { return s.applied }

func (s *snapshot) Get(key []byte) ([]byte, error) {
	b, closer, err := s.reader.Get(storeKey(s.partition, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fault("read the view", err)
	}
	defer closer.Close()
	value, _, live := openValue(b, s.now)
	if !live {
		return nil, nil
	}
	return append([]byte{}, value...), nil
}

func (s *snapshot) Scan(prefix []byte, visit func(key, value []byte) bool) error {
	lower := storeKey(s.partition, prefix)
	it, err := s.reader.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: keyAfter(lower)})
	if err != nil {
		return fault("read the view", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if value, _, live := openValue(it.Value(), s.now); live && !visit(it.Key()[3:], value) {
			break
		}
	}
	return fault("read the view", it.Close())
}

// Sweep removes what expired before now, up to limit entries, and returns how
// many it removed. A sweep that finds nothing costs one seek.
func (s *store) Sweep(ctx context.Context, limit int) (int, error) {
	until := binary.BigEndian.AppendUint64([]byte{expiryKey}, uint64(s.now().Unix())+1)
	it, err := s.view.NewIter(&pebble.IterOptions{LowerBound: []byte{expiryKey}, UpperBound: until})
	if err != nil {
		return 0, fault("read the view", err)
	}
	var notes [][]byte
	for ok := it.First(); ok && len(notes) < limit; ok = it.Next() {
		notes = append(notes, append([]byte(nil), it.Key()...))
	}
	if err := it.Close(); err != nil {
		return 0, fault("read the view", err)
	}
	for i, note := range notes {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if err := s.expire(ctx, note); err != nil {
			return i, err
		}
	}
	return len(notes), nil
}

// expire removes a note and its entry, unless that has been written anew since.
func (s *store) expire(ctx context.Context, note []byte) error {
	second := int64(binary.BigEndian.Uint64(note[1:]))
	key := append([]byte{entryKey}, note[9:]...)
	p, err := s.partition(binary.BigEndian.Uint16(key[1:]))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := s.view.admit(ctx, len(note)+len(key)); err != nil {
		return err
	}
	b := s.view.NewBatch()
	defer b.Close()
	value, closer, err := s.view.Get(key)
	if err == nil {
		if _, expires, _ := openValue(value, 0); expires == second {
			err = b.Delete(key, nil)
		}
		closer.Close()
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err == nil {
		err = b.Delete(note, nil)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	return fault("remove what has expired", err)
}

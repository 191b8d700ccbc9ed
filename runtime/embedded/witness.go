package embedded

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A witness says, outside the journal itself, how far the journal goes. It is
// written after each fsync of the journal but fsynced itself only where a file
// comes or goes: so it never claims more than is durable, and after a crash
// of the process alone it is exact. A journal that ends before its witness has
// lost acknowledged data.
type witness struct {
	file  vfs.File
	seq   uint64
	state witnessState
}

type witnessState struct {
	start   uint64 // offset of the first segment
	base    uint64 // offset of the newest segment
	end     uint64 // offset after the last acknowledged record
	chain   uint32 // checksum of the last acknowledged frame
	applied uint64 // position that the view was said to hold durably
}

// Two slots, written in turn and in different sectors: a torn write spoils one.
const (
	witnessMagic = 0x4b415257
	witnessSlot  = 512
	witnessSize  = 4 + 8*5 + 4 + 4
)

func createWitness(fs vfs.FS, path string, s witnessState) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b := make([]byte, 2*witnessSlot)
	copy(b, encodeWitness(1, s))
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func openWitness(fs vfs.FS, path string) (*witness, error) {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	w := &witness{file: f}
	b := make([]byte, 2*witnessSlot)
	n, _ := f.ReadAt(b, 0)
	for at := 0; at+witnessSize <= n; at += witnessSlot {
		if seq, s, ok := decodeWitness(b[at : at+witnessSize]); ok && seq > w.seq {
			w.seq, w.state = seq, s
		}
	}
	if w.seq == 0 {
		f.Close()
		return nil, damaged(path, "neither of its two entries has a valid checksum")
	}
	return w, nil
}

func (w *witness) write(s witnessState) error {
	w.seq++
	w.state = s
	_, err := w.file.WriteAt(encodeWitness(w.seq, s), int64(w.seq+1)%2*witnessSlot)
	return err
}

func (w *witness) sync(s witnessState) error {
	if err := w.write(s); err != nil {
		return err
	}
	return w.file.SyncData()
}

func encodeWitness(seq uint64, s witnessState) []byte {
	b := make([]byte, 0, witnessSize)
	b = binary.LittleEndian.AppendUint32(b, witnessMagic)
	for _, v := range [...]uint64{seq, s.start, s.base, s.end, s.applied} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, s.chain)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func decodeWitness(b []byte) (seq uint64, s witnessState, ok bool) {
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(b[4+8*i:]) }
	ok = binary.LittleEndian.Uint32(b) == witnessMagic &&
		binary.LittleEndian.Uint32(b[witnessSize-4:]) == crc32.Checksum(b[:witnessSize-4], castagnoli())
	s = witnessState{start: at(1), base: at(2), end: at(3), applied: at(4)}
	s.chain = binary.LittleEndian.Uint32(b[44:])
	return at(0), s, ok
}

package embedded

import (
	"encoding/binary"
	"hash/crc32"
)

// A segment file is a header, then frames, then zeros. One frame is one
// appended batch, so a batch is whole or not there. All numbers are little
// endian.
//
//	header  magic 8 | seed 8 | base 8 | chain 4 | crc 4
//	frame   marker 4 | length 4 | count 4 | chain 4 | first 8 | crc 4 | records
//	record  length (uvarint) | bytes
//
// The seed is drawn for each segment and enters every checksum, so bytes of
// another file, and payloads made to look like frames, do not pass. The chain
// is the checksum of what precedes: frames cannot be swapped or left out.
const (
	segmentMagic  = "KARSEG1\n"
	segmentHeader = 32
	frameHeader   = 28
	maxFrame      = 1 << 30
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// A header starts a segment.
type header struct {
	seed  uint64
	base  uint64 // offset of the first record
	chain uint32 // checksum of the last frame before it
}

func (h header) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], h.seed)
	binary.LittleEndian.PutUint64(b[16:], h.base)
	binary.LittleEndian.PutUint32(b[24:], h.chain)
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli()))
	return b
}

func decodeHeader(b []byte) (header, bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli()) {
		return header{}, false
	}
	return header{
		seed:  binary.LittleEndian.Uint64(b[8:]),
		base:  binary.LittleEndian.Uint64(b[16:]),
		chain: binary.LittleEndian.Uint32(b[24:]),
	}, true
}

// start is the chain value of the segment's first frame.
func (h header) start() uint32 { return uint32(h.seed) ^ h.chain }

func (h header) marker() uint32 { return uint32(h.seed>>32) | 1 }

// appendFrame appends the frame of a batch to b and returns its checksum.
func (h header) appendFrame(b []byte, first uint64, chain uint32, batch [][]byte) ([]byte, uint32) {
	at := len(b)
	b = append(b, make([]byte, frameHeader)...)
	for _, record := range batch {
		b = binary.AppendUvarint(b, uint64(len(record)))
		b = append(b, record...)
	}
	f := b[at:]
	binary.LittleEndian.PutUint32(f, h.marker())
	binary.LittleEndian.PutUint32(f[4:], uint32(len(f)-frameHeader))
	binary.LittleEndian.PutUint32(f[8:], uint32(len(batch)))
	binary.LittleEndian.PutUint32(f[12:], chain)
	binary.LittleEndian.PutUint64(f[16:], first)
	sum := h.checksum(f)
	binary.LittleEndian.PutUint32(f[24:], sum)
	return b, sum
}

func (h header) checksum(f []byte) uint32 {
	sum := crc32.Update(uint32(h.seed), castagnoli(), f[:24])
	return crc32.Update(sum, castagnoli(), f[frameHeader:])
}

// A frame is one batch as it was read.
type frame struct {
	first   uint64
	count   uint32
	chain   uint32 // checksum of the frame before
	sum     uint32
	records []byte
}

func (f frame) size() int64 { return frameHeader + int64(len(f.records)) }
func (f frame) end() uint64 { return f.first + uint64(f.count) }

// frameLength is the full length that the frame header at the start of b
// claims, or false when b does not start with one.
func (h header) frameLength(b []byte) (int64, bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint32(b) != h.marker() {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(b[4:])
	return frameHeader + int64(n), n <= maxFrame
}

// decodeFrame reads the frame that fills b; false when it is not valid.
func (h header) decodeFrame(b []byte) (frame, bool) {
	sum := h.checksum(b)
	if binary.LittleEndian.Uint32(b[24:]) != sum {
		return frame{}, false
	}
	return frame{
		first:   binary.LittleEndian.Uint64(b[16:]),
		count:   binary.LittleEndian.Uint32(b[8:]),
		chain:   binary.LittleEndian.Uint32(b[12:]),
		sum:     sum,
		records: b[frameHeader:],
	}, true
}

// visit calls fn for each record from offset on; false when the lengths do not fit.
func (f frame) visit(from uint64, fn func(uint64, []byte) error) (bool, error) {
	rest := f.records
	for i := range uint64(f.count) {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return false, nil
		}
		record := rest[used : used+int(n)]
		rest = rest[used+int(n):]
		if f.first+i < from {
			continue
		}
		if err := fn(f.first+i, record); err != nil {
			return true, err
		}
	}
	return len(rest) == 0, nil
}

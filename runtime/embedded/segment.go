package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A segment is one file of a journal.
type segment struct {
	header
	path string
	end  uint64 // offset after its last record
	size int64  // bytes up to the end of its last frame
	sum  uint32 // checksum of its last frame, or the start of its chain
}

func segmentName(journal string, base uint64) string {
	return fmt.Sprintf("%s-%020d.log", journal, base)
}

// segmentBase reads the base out of a file name of the journal.
func segmentBase(journal, name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, journal+"-")
	if !ok || !strings.HasSuffix(digits, ".log") {
		return 0, false
	}
	var base uint64
	if _, err := fmt.Sscanf(digits, "%d.log", &base); err != nil || segmentName(journal, base) != name {
		return 0, false
	}
	return base, true
}

// createSegment makes the file under its name only once it is whole and
// durable, so that a segment without a valid header is always damage.
func createSegment(fs vfs.FS, dir, journal string, base uint64, chain uint32) (segment, error) {
	h := header{seed: rand.Uint64(), base: base, chain: chain}
	s := segment{header: h, path: fs.PathJoin(dir, segmentName(journal, base)), end: base, size: segmentHeader, sum: h.start()}
	tmp := s.path + ".tmp"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return s, err
	}
	_, err = f.Write(h.encode())
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fs.Rename(tmp, s.path)
	}
	if err == nil {
		return s, syncDir(fs, dir)
	}
	_ = fs.Remove(tmp)
	return s, err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// frames reads the frames of a segment one after another.
type frames struct {
	header
	file io.ReaderAt
	size int64 // of the file, or up to where it may be read
	at   int64 // where the next frame starts
	buf  []byte
	base int64 // file position of buf[0]
}

const readChunk = 256 << 10

// next returns the frame at r.at and moves behind it; ok is false where no
// valid frame starts. The frame is valid until the following call.
func (r *frames) next() (f frame, ok bool, err error) {
	b, err := r.window(frameHeader)
	if err != nil || len(b) < frameHeader {
		return frame{}, false, err
	}
	n, ok := r.frameLength(b)
	if !ok || r.at+n > r.size {
		return frame{}, false, nil
	}
	if b, err = r.window(n); err != nil || int64(len(b)) < n {
		return frame{}, false, err
	}
	if f, ok = r.decodeFrame(b[:n]); ok {
		r.at += n
	}
	return f, ok, nil
}

// window returns at least n bytes from r.at on, fewer only at the end.
func (r *frames) window(n int64) ([]byte, error) {
	have := r.buf[min(r.at-r.base, int64(len(r.buf))):]
	if int64(len(have)) >= n {
		return have, nil
	}
	want := min(max(n, readChunk), r.size-r.at)
	if want <= int64(len(have)) {
		return have, nil
	}
	buf := r.buf[:0]
	if int64(cap(buf)) < want {
		buf = make([]byte, 0, want)
	}
	buf = append(buf, have...) // overlapping is fine: it moves to the front
	got, err := r.file.ReadAt(buf[len(have):want], r.at+int64(len(have)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r.buf, r.base = buf[:len(have)+got], r.at
	return r.buf, nil
}

// rest is everything from r.at to the end of the file.
func (r *frames) rest() ([]byte, error) {
	b := make([]byte, max(0, r.size-r.at))
	n, err := r.file.ReadAt(b, r.at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// laterFrame finds a valid frame anywhere in b, other than at its start.
func (h header) laterFrame(b []byte) (frame, bool) {
	marker := binary.LittleEndian.AppendUint32(nil, h.marker())
	for at := 1; at < len(b); at++ {
		i := bytes.Index(b[at:], marker)
		if i < 0 {
			break
		}
		at += i
		if n, ok := h.frameLength(b[at:]); ok && n <= int64(len(b)-at) {
			if f, ok := h.decodeFrame(b[at : at+int(n)]); ok {
				return f, true
			}
		}
	}
	return frame{}, false
}

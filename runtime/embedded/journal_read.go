package embedded

import (
	"context"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A part is what one Read takes from one segment, as it is at the call.
type part struct {
	segment
	file vfs.File
}

func (j *journal) Read(ctx context.Context, from uint64, visit func(uint64, []byte) error) error {
	parts, err := j.parts(from)
	defer func() {
		for _, p := range parts {
			p.file.Close()
		}
	}()
	if err != nil {
		return err
	}
	var buf []byte
	for _, p := range parts {
		if buf, err = p.read(ctx, buf, from, visit); err != nil {
			return err
		}
	}
	return nil
}

// parts opens the files while none of them can be trimmed.
func (j *journal) parts(from uint64) (parts []part, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.usable(); err != nil {
		return nil, err
	}
	for _, s := range j.segments {
		if s.end <= from || s.end == s.base {
			continue
		}
		f, err := j.fs.Open(s.path)
		if err != nil {
			return parts, fault("open "+s.path, err)
		}
		parts = append(parts, part{s, f})
	}
	return parts, nil
}

func (p part) read(ctx context.Context, buf []byte, from uint64, visit func(uint64, []byte) error) ([]byte, error) {
	r := frames{header: p.header, file: p.file, size: p.size, at: segmentHeader, buf: buf[:0], base: segmentHeader}
	for r.at < p.size {
		if err := ctx.Err(); err != nil {
			return r.buf, err
		}
		at := r.at
		f, ok, err := r.next()
		if err != nil {
			return r.buf, fault("read "+p.path, err)
		}
		if !ok {
			return r.buf, damaged(p.path, "the record at byte %d has changed since it was written", at)
		}
		if f.end() <= from {
			continue
		}
		if fits, err := f.visit(from, visit); err != nil {
			return r.buf, err
		} else if !fits {
			return r.buf, damaged(p.path, "the lengths in the record at byte %d do not fit", at)
		}
	}
	return r.buf, nil
}

package embedded

import (
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func witnessPath(fs vfs.FS, dir, name string) string { return fs.PathJoin(dir, name+".witness") }

// createJournal makes an empty journal, durably.
func createJournal(fs vfs.FS, dir, name string) error {
	s, err := createSegment(fs, dir, name, 0, 0)
	if err != nil {
		return err
	}
	return createWitness(fs, witnessPath(fs, dir, name), witnessState{chain: s.sum})
}

// openJournal reads every frame, so that damage is found before anything is
// accepted. It changes nothing; writable has to follow before the first append.
func openJournal(fs vfs.FS, dir, name string, segBytes int64, failed func(error)) (*journal, error) {
	j := &journal{fs: fs, dir: dir, name: name, segBytes: segBytes, failed: failed}
	var err error
	if j.witness, err = openWitness(fs, witnessPath(fs, dir, name)); err != nil {
		return nil, fault("open the witness of "+fs.PathJoin(dir, name), err)
	}
	if err = j.findSegments(); err == nil {
		err = j.checkSegments()
	}
	if err != nil {
		j.witness.file.Close()
		return nil, err
	}
	return j, nil
}

// findSegments lists the files, without those that a trim had given up.
func (j *journal) findSegments() error {
	names, err := j.fs.List(j.dir)
	if err != nil {
		return fault("list "+j.dir, err)
	}
	for _, name := range names {
		path := j.fs.PathJoin(j.dir, name)
		if strings.HasPrefix(name, j.name+"-") && strings.HasSuffix(name, ".log.tmp") {
			j.leftover = append(j.leftover, path)
		}
		base, ok := segmentBase(j.name, name)
		if !ok {
			continue
		}
		if base < j.witness.state.start {
			j.leftover = append(j.leftover, path)
			continue
		}
		j.segments = append(j.segments, segment{header: header{base: base}, path: path})
	}
	slices.SortFunc(j.segments, func(a, b segment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	if len(j.segments) == 0 || j.segments[0].base != j.witness.state.start {
		missing := segmentName(j.name, j.witness.state.start)
		return damaged(j.fs.PathJoin(j.dir, missing), "the file is missing")
	}
	if newest := j.last().base; newest < j.witness.state.base {
		missing := segmentName(j.name, j.witness.state.base)
		return damaged(j.fs.PathJoin(j.dir, missing), "the file is missing")
	}
	return nil
}

// checkSegments reads all segments and fits them together.
func (j *journal) checkSegments() error {
	for i := range j.segments {
		s := &j.segments[i]
		before := segment{}
		if i > 0 {
			before = j.segments[i-1]
			if s.base != before.end {
				return damaged(before.path, "it ends at record %d, the next file starts at %d", before.end, s.base)
			}
		}
		if err := j.checkSegment(s, i == len(j.segments)-1); err != nil {
			return err
		}
		if i > 0 && s.chain != before.sum {
			return damaged(s.path, "it does not continue %s", before.path)
		}
		j.bytes += s.size
	}
	s, w := j.last(), j.witness.state
	same := s.sum == w.chain ||
		s.end == s.base && s.chain == w.chain // started after the witness was written
	if s.end < w.end || s.end == w.end && !same {
		return damaged(s.path, "it ends at record %d, but records up to %d were acknowledged", s.end, w.end)
	}
	return nil
}

func (j *journal) checkSegment(s *segment, last bool) error {
	f, err := j.fs.Open(s.path)
	if err != nil {
		return fault("open "+s.path, err)
	}
	defer f.Close()
	r := frames{file: f}
	if r.size, err = fileSize(f); err != nil {
		return fault("read "+s.path, err)
	}
	b, err := r.window(segmentHeader)
	if err != nil {
		return fault("read "+s.path, err)
	}
	h, ok := decodeHeader(b)
	if !ok || h.base != s.base {
		return damaged(s.path, "its header is not valid")
	}
	s.header, r.header, r.at = h, h, segmentHeader
	s.end, s.sum = h.base, h.start()
	for {
		fr, ok, err := r.next()
		if err != nil {
			return fault("read "+s.path, err)
		}
		if !ok {
			break
		}
		if fr.first != s.end || fr.chain != s.sum {
			return damaged(s.path, "the record at byte %d is not the one that belongs there", r.at-fr.size())
		}
		s.end, s.sum = fr.end(), fr.sum
	}
	s.size = r.at
	return j.checkTail(s, &r, last)
}

// checkTail looks at what follows the last valid frame. Appends are made one
// at a time and each is durable before the next begins, so a power loss can
// leave one broken frame, the last. Anything valid behind it, or a witness who
// has seen more, means that the broken place had been whole.
func (j *journal) checkTail(s *segment, r *frames, last bool) error {
	rest, err := r.rest()
	if err != nil {
		return fault("read "+s.path, err)
	}
	broken := slices.IndexFunc(rest, func(b byte) bool { return b != 0 }) >= 0
	if !broken {
		return nil
	}
	if later, ok := s.laterFrame(rest); ok || !last || s.end < j.witness.state.end {
		if ok {
			return damaged(s.path, "the record at byte %d has a wrong checksum, and record %d behind it is whole", r.at, later.first)
		}
		return damaged(s.path, "the record at byte %d, which was acknowledged, has a wrong checksum", r.at)
	}
	return nil
}

// writable opens the last segment for appending. What a crash left behind its
// last whole frame is overwritten with zeros, and all is made durable before
// anybody may read it: a record that was seen must not go away again. This is
// the only thing that is ever mended: an append that was not acknowledged.
func (j *journal) writable() error {
	for _, path := range j.leftover {
		_ = j.fs.Remove(path) // when it fails, the next open tries again
	}
	j.leftover = nil
	s := j.last()
	f, err := j.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fault("open "+s.path+" for writing", err)
	}
	j.file = f
	size, err := fileSize(f)
	if err != nil {
		return fault("read "+s.path, err)
	}
	r := frames{file: f, size: size, at: s.size}
	rest, err := r.rest()
	if err != nil {
		return fault("read "+s.path, err)
	}
	if slices.IndexFunc(rest, func(b byte) bool { return b != 0 }) >= 0 {
		clear(rest)
		if _, err := f.WriteAt(rest, s.size); err != nil {
			return fault("mend the end of "+s.path, err)
		}
	}
	j.zeroed = max(size, s.size)
	if s.end > s.base || len(rest) > 0 {
		if err := f.SyncData(); err != nil {
			return fault("sync "+s.path, err)
		}
	}
	return fault("note the end of "+s.path, j.witness.write(j.acknowledged()))
}

func fileSize(f vfs.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

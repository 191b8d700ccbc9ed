package guard

import (
	"strconv"
	"time"
)

// An image is where the kernel has put the program of a process: it chooses the places
// anew each time one is executed, which keeps the process and when it began. The zero
// image is one that may not be looked at.
type image struct{ code, end, stack uint64 }

// imageIn reads the fields of proc(5), from the third on.
func imageIn(f [][]byte) (m image) {
	for i, to := range []*uint64{&m.code, &m.end, &m.stack} {
		n, err := strconv.ParseUint(string(f[23+i]), 10, 64)
		if err != nil {
			return image{}
		}
		*to = n
	}
	if m.stack == 0 {
		return image{}
	}
	return m
}

// Programs are those that listen, as they were at a point of [BootTime].
type programs struct {
	at       time.Duration
	images   map[listener]image
	replaced func() (yes, known bool)
}

// sameFor is how long programs are taken for those that listen: as exactly as the
// kernel tells when a process began.
const sameFor = 10 * time.Millisecond

// Programs notes which programs listen on the port. Replaced tells later whether one
// that listens then has begun since: in a new process, or in place of another in the
// same one. Known is false when none listens then; c may be nil.
func (c *Child) Programs(port int) (replaced func() (yes, known bool)) {
	now := BootTime()
	if c == nil {
		return func() (yes, known bool) { return c.since(port, programs{at: now}) }
	}
	c.Meet(port)
	w := &c.seen
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.programs.replaced != nil && now-w.programs.at < sameFor {
		return w.programs.replaced
	}
	p := programs{at: now, images: map[listener]image{}}
	for _, list := range [][]listener{w.roots, w.workers} {
		for _, l := range list {
			if m, ok := imageOf(l); ok {
				p.images[l] = m
			}
		}
	}
	p.replaced = func() (yes, known bool) { return c.since(port, p) }
	w.programs = p
	return p.replaced
}

// since tells whether another program listens than those noted.
func (c *Child) since(port int, noted programs) (yes, known bool) {
	began, known := c.youngestListener(port)
	if !known || began > noted.at {
		return known, known
	}
	for l, was := range noted.images {
		if m, ok := imageOf(l); ok && m != was {
			return true, true
		}
	}
	return false, true
}

// imageOf is false for a process that has ended or may not be looked at.
func imageOf(l listener) (m image, ok bool) {
	s, ok := readStatus("/proc/" + strconv.Itoa(l.pid) + "/stat")
	return s.image, ok && s.start == l.start && s.image != image{}
}

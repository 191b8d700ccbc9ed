package runtime

// A record that the log would refuse must refuse its request, and before
// anything of it is decided. These sizes are upper bounds of what varies in a
// record; they need not be exact.

// recordMargin is room for what varies little, and for what a record says more
// when it is kept.
const recordMargin = 4096

// listBytes is about how large a record of a list gets before the rest goes into
// the next one.
const listBytes = 128 << 10

// SetRecordLimit says how large a record the log takes now: somebody may change it.
func (c *Core) SetRecordLimit(bytes int) { c.cfg.RecordLimit = bytes }

// fits tells whether the log takes a record with so many bytes that vary.
func (c *Core) fits(bytes int) bool {
	return c.cfg.RecordLimit <= 0 || bytes+recordMargin <= c.cfg.RecordLimit
}

// refuseLarge refuses what does not fit.
func (c *Core) refuseLarge(waiter any, what string, bytes int) bool {
	if c.fits(bytes) {
		return false
	}
	c.refuse(waiter, Errorf(CodeTooLarge, "%s has about %d bytes, the log takes records of up to %d", what, bytes, c.cfg.RecordLimit))
	return true
}

func (a Actor) bytes() int { return len(a.App) + len(a.Type) + len(a.ID) + 16 }

func (t Target) bytes() int { return t.Actor().bytes() + len(t.Service) }

func (h Header) bytes() int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 12
		}
	}
	return n
}

func (r *Request) bytes() int {
	return 2*r.Target.bytes() + len(r.Method) + len(r.Path) + len(r.Key) + len(r.Boot) + r.Header.bytes() + len(r.Body)
}

func (o *Outcome) bytes() int { return len(o.Code) + o.Header.bytes() + len(o.Body) }

// The firing of a reminder has its actor and path again.
func (r *Reminder) bytes() int { return 2*r.Actor.bytes() + 2*len(r.ID) + len(r.Path) + len(r.Data) }

func (s *Subscription) bytes() int {
	return s.Actor.bytes() + len(s.ID) + len(s.Path) + len(s.Topic) + len(s.ContentType) + len(s.Group) + 64
}

func (f *Field) bytes() int { return len(f.Key) + len(f.Sub) + len(f.Value) + 24 }

// pieces cuts a list into parts of about listBytes.
func pieces[T any](list []T, bytes func(T) int) (parts [][]T) {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && size < listBytes {
			size += bytes(list[n])
			n++
		}
		parts, list = append(parts, list[:n]), list[n:]
	}
	return parts
}

package runtime

import (
	"encoding/binary"
	"errors"
	"sort"
)

// codec writes or reads a message of numbered fields, so that one method per
// type states both directions. A field is a uvarint (number<<1 | isBytes)
// followed by a uvarint or by a length and bytes. Zero values are left out and
// unknown numbers are skipped: old code reads new records and the reverse.
// Numbers are never reused; they are below maxFields.
type codec struct {
	writing bool
	out     []byte
	set     uint64
	vals    *[maxFields]span // reading: valid where set says so
	tables  *tables
	bad     bool
}

// tables are the field tables of nested messages, by depth, and bodies of
// records that nothing keeps a pointer to, all to be used again.
type tables struct {
	depth    int
	levels   []*level
	accepted accepted
	started  started
}

type level struct {
	codec codec
	vals  [maxFields]span
}

const maxFields = 48

type span struct {
	n uint64
	b []byte
}

type message interface{ fields(*codec) }

var errCorrupt = errors.New("malformed record")

func encode(dst []byte, m message) []byte {
	c := codec{writing: true, out: dst}
	m.fields(&c)
	return c.out
}

func decode(b []byte, m message) error { return decodeWith(&tables{}, b, m) }

func decodeWith(t *tables, b []byte, m message) error {
	if t.depth == len(t.levels) {
		t.levels = append(t.levels, &level{})
	}
	l := t.levels[t.depth]
	t.depth++
	defer func() { t.depth-- }()
	c := &l.codec
	*c = codec{tables: t, vals: &l.vals}
	if !c.parse(b) {
		return errCorrupt
	}
	m.fields(c)
	if c.bad {
		return errCorrupt
	}
	return nil
}

func (c *codec) parse(b []byte) bool {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		s := span{n: v}
		if key&1 == 1 {
			if v > uint64(len(b)) {
				return false
			}
			s.b = b[:v:v]
			b = b[v:]
		}
		if num := key >> 1; num < maxFields {
			c.vals[num] = s
			c.set |= 1 << num
		}
	}
	return true
}

func (c *codec) has(num int) bool { return c.set&(1<<num) != 0 }

func (c *codec) at(num int) span {
	if !c.has(num) {
		return span{}
	}
	return c.vals[num]
}

// nested writes a message in place: its length is put in front once it is known.
func (c *codec) nested(num int, m message) {
	c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
	start := len(c.out)
	m.fields(c)
	c.prefix(start)
}

// prefix puts the length of what was written since start in front of it.
func (c *codec) prefix(start int) {
	n := len(c.out) - start
	var l [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(l[:], uint64(n))
	c.out = append(c.out, l[:w]...)
	copy(c.out[start+w:], c.out[start:start+n])
	copy(c.out[start:], l[:w])
}

func (c *codec) raw(num int, b []byte) {
	c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
	c.out = binary.AppendUvarint(c.out, uint64(len(b)))
	c.out = append(c.out, b...)
}

func (c *codec) u64(num int, p *uint64) {
	if !c.writing {
		*p = c.at(num).n
	} else if *p != 0 {
		c.out = binary.AppendUvarint(c.out, uint64(num)<<1)
		c.out = binary.AppendUvarint(c.out, *p)
	}
}

func (c *codec) i64(num int, p *int64) {
	v := uint64(*p)<<1 ^ uint64(*p>>63)
	c.u64(num, &v)
	if !c.writing {
		*p = int64(v>>1) ^ -int64(v&1)
	}
}

func (c *codec) u32(num int, p *uint32) {
	v := uint64(*p)
	c.u64(num, &v)
	*p = uint32(v)
}

func (c *codec) u16(num int, p *uint16) {
	v := uint64(*p)
	c.u64(num, &v)
	*p = uint16(v)
}

func (c *codec) int(num int, p *int) {
	v := int64(*p)
	c.i64(num, &v)
	*p = int(v)
}

func (c *codec) bool(num int, p *bool) {
	var v uint64
	if *p {
		v = 1
	}
	c.u64(num, &v)
	*p = v != 0
}

func (c *codec) str(num int, p *string) {
	if !c.writing {
		*p = string(c.at(num).b)
	} else if *p != "" {
		c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
		c.out = binary.AppendUvarint(c.out, uint64(len(*p)))
		c.out = append(c.out, *p...)
	}
}

// bytes keeps the difference between nil and empty.
func (c *codec) bytes(num int, p *[]byte) {
	if c.writing {
		if *p != nil {
			c.raw(num, *p)
		}
		return
	}
	if c.has(num) {
		*p = append(make([]byte, 0, len(c.vals[num].b)), c.vals[num].b...)
	}
}

func (c *codec) id(num int, p *ID) {
	if c.writing {
		if !p.IsZero() {
			c.raw(num, p[:])
		}
		return
	}
	if c.has(num) {
		if len(c.vals[num].b) != len(p) {
			c.bad = true
			return
		}
		copy(p[:], c.vals[num].b)
	}
}

func (c *codec) ids(num int, p *[]ID) {
	if c.writing {
		if len(*p) == 0 {
			return
		}
		c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
		c.out = binary.AppendUvarint(c.out, uint64(len(*p)*16))
		for i := range *p {
			c.out = append(c.out, (*p)[i][:]...)
		}
		return
	}
	b := c.at(num).b
	if len(b)%16 != 0 {
		c.bad = true
		return
	}
	for ; len(b) > 0; b = b[16:] {
		*p = append(*p, ID(b[:16]))
	}
}

// msg is a nested message; present is whether it is written, and on return
// whether it was there.
func (c *codec) msg(num int, present *bool, m message) {
	if c.writing {
		if *present {
			c.nested(num, m)
		}
		return
	}
	*present = c.has(num)
	if *present && decodeWith(c.tables, c.vals[num].b, m) != nil {
		c.bad = true
	}
}

func (c *codec) strs(num int, p *[]string) {
	if c.writing {
		if len(*p) == 0 {
			return
		}
		c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
		start := len(c.out)
		for _, s := range *p {
			c.out = appendPart(c.out, s)
		}
		c.prefix(start)
		return
	}
	for b := c.at(num).b; len(b) > 0; {
		s, rest, ok := cutPart(b)
		if !ok {
			c.bad = true
			return
		}
		*p, b = append(*p, string(s)), rest
	}
}

func (c *codec) header(num int, p *Header) {
	if c.writing {
		if len(*p) == 0 {
			return
		}
		names := make([]string, 0, len(*p))
		for n := range *p {
			names = append(names, n)
		}
		sort.Strings(names)
		var flat []string
		for _, n := range names {
			for _, v := range (*p)[n] {
				flat = append(flat, n, v)
			}
		}
		c.strs(num, &flat)
		return
	}
	var flat []string
	c.strs(num, &flat)
	for i := 0; i+1 < len(flat); i += 2 {
		if *p == nil {
			*p = Header{}
		}
		(*p)[flat[i]] = append((*p)[flat[i]], flat[i+1])
	}
}

// list is a repeated nested message.
func list[T any, P interface {
	*T
	message
}](c *codec, num int, p *[]T) {
	if c.writing {
		if len(*p) == 0 {
			return
		}
		c.out = binary.AppendUvarint(c.out, uint64(num)<<1|1)
		start := len(c.out)
		for i := range *p {
			one := len(c.out)
			P(&(*p)[i]).fields(c)
			c.prefix(one)
		}
		c.prefix(start)
		return
	}
	for b := c.at(num).b; len(b) > 0; {
		one, rest, ok := cutPart(b)
		var t T
		if !ok || decodeWith(c.tables, one, P(&t)) != nil {
			c.bad = true
			return
		}
		*p, b = append(*p, t), rest
	}
}

// appendPart and cutPart frame strings so that no content can be mistaken for
// a boundary; store keys are made of them.
func appendPart(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func cutPart(b []byte) (part, rest []byte, ok bool) {
	l, n := binary.Uvarint(b)
	if n <= 0 || l > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(l)], b[n+int(l):], true
}

func (a *Actor) fields(c *codec) {
	c.str(1, &a.App)
	c.str(2, &a.Type)
	c.str(3, &a.ID)
}

func (t *Target) fields(c *codec) {
	c.str(1, &t.App)
	c.str(2, &t.Type)
	c.str(3, &t.ID)
	c.str(4, &t.Service)
}

func (r *Request) fields(c *codec) {
	c.id(1, &r.ID)
	k := uint64(r.Kind)
	c.u64(2, &k)
	r.Kind = Kind(k)
	has := true
	c.msg(3, &has, &r.Target)
	c.str(4, &r.Method)
	c.str(5, &r.Path)
	c.header(6, &r.Header)
	c.bytes(7, &r.Body)
	c.str(8, &r.Boot)
	c.str(9, &r.Key)
	c.i64(10, &r.NoHost)
	c.i64(11, &r.Busy)
	c.i64(12, &r.Deadline)
	c.i64(13, &r.NotBefore)
	c.bool(14, &r.CancelWithCaller)
	c.u64(15, &r.sum)
	moved := r.first != (Target{})
	c.msg(16, &moved, &r.first)
}

func (o *Outcome) fields(c *codec) {
	c.int(1, &o.Status)
	c.header(2, &o.Header)
	c.bytes(3, &o.Body)
	code := string(o.Code)
	c.str(4, &code)
	o.Code = Code(code)
}

func (r *Reminder) fields(c *codec) {
	has := true
	c.msg(1, &has, &r.Actor)
	c.str(2, &r.ID)
	c.str(3, &r.Path)
	c.i64(4, &r.Due)
	c.i64(5, &r.Period)
	c.bytes(6, &r.Data)
	c.bool(7, &r.CatchUp)
	c.i64(8, &r.TargetNS)
}

func (s *Subscription) fields(c *codec) {
	has := true
	c.msg(1, &has, &s.Actor)
	c.str(2, &s.ID)
	c.str(3, &s.Path)
	c.str(4, &s.Topic)
	c.str(5, &s.ContentType)
	c.str(6, &s.Group)
	c.bool(7, &s.Oldest)
	c.i64(8, &s.Next)
}

func (f *Field) fields(c *codec) {
	c.str(1, &f.Key)
	c.str(2, &f.Sub)
	c.bool(3, &f.InMap)
	c.bytes(4, &f.Value)
}

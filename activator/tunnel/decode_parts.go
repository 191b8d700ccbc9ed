package tunnel

import "github.com/karmesh/kar/runtime"

// The structures inside messages. An error in one is an error of the whole.

func attempt(f *fields, data []byte) (a runtime.Attempt) {
	in := fields{b: data}
	for x, ok := in.next(); ok; x, ok = in.next() {
		switch x.num {
		case 1:
			a.ID = in.id(x.data)
		case 2:
			a.Step = uint32(x.v)
		case 3:
			a.Number = uint32(x.v)
		case 4:
			a.Partition = uint16(x.v)
		}
	}
	f.keep(in.err)
	return a
}

func actor(f *fields, data []byte) (a runtime.Actor) {
	in := fields{b: data}
	for x, ok := in.next(); ok; x, ok = in.next() {
		switch x.num {
		case 1:
			a.App = string(x.data)
		case 2:
			a.Type = string(x.data)
		case 3:
			a.ID = string(x.data)
		}
	}
	f.keep(in.err)
	return a
}

func deactivate(f *fields) (m runtime.Deactivate) {
	each(f, func(x field) {
		switch x.num {
		case 1:
			m.Actor = actor(f, x.data)
		case 2:
			m.Partition = uint16(x.v)
		case 3:
			m.Epoch = x.v
		case 4:
			m.Asking = x.v
		}
	})
	return m
}

func epoch(f *fields, data []byte) (e runtime.PartitionEpoch) {
	in := fields{b: data}
	for x, ok := in.next(); ok; x, ok = in.next() {
		switch x.num {
		case 1:
			e.Partition = uint16(x.v)
		case 2:
			e.Epoch = x.v
		}
	}
	f.keep(in.err)
	return e
}

func term(f *fields, data []byte) (t runtime.TermSeen) {
	in := fields{b: data}
	for x, ok := in.next(); ok; x, ok = in.next() {
		switch x.num {
		case 1:
			t.Partition = uint16(x.v)
		case 2:
			t.Epoch = x.v
		case 3:
			t.Mark = x.v
		}
	}
	f.keep(in.err)
	return t
}

func info(f *fields, data []byte) (i runtime.HostInfo) {
	in := fields{b: data}
	for x, ok := in.next(); ok; x, ok = in.next() {
		switch x.num {
		case 1:
			i.Boot = string(x.data)
		case 2:
			i.App = string(x.data)
		case 3:
			i.Name = string(x.data)
		case 4:
			i.Service = string(x.data)
		case 5:
			i.Actors = append(i.Actors, string(x.data))
		case 6:
			i.Port = int(x.v)
		case 7:
			i.Idle = int64(x.v)
		case 8:
			i.Grace = int64(x.v)
		case 9:
			i.URL = string(x.data)
		case 10:
			i.Draining = x.v != 0
		case 11:
			i.Frozen = x.v != 0
		case 12:
			i.Attachment = x.v
		}
	}
	f.keep(in.err)
	return i
}

func (f *fields) keep(err error) {
	if err != nil {
		f.err = err
	}
}

package runtime

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

const lastKind = maxFields // no kind is above

// TestFilledRecords fills every field of every kind of record by reflection.
// Each comes back from its bytes; what it means for the partition is kept,
// trimmed and folded without loss; and no field of a durable thing is left out.
func TestFilledRecords(t *testing.T) {
	l := &lister{seen: map[string]bool{}}
	survived, fields := map[string]bool{}, map[string]bool{}
	for kind := uint64(1); kind < lastKind; kind++ {
		body := newBody(kind)
		if body == nil {
			continue
		}
		for _, m := range variants(body) {
			t.Run(fmt.Sprintf("%T", body)[len("*runtime."):], func(t *testing.T) {
				again := newBody(kind)
				if err := decode(encode(nil, m), again); err != nil {
					t.Fatal(err)
				}
				compareFields(fmt.Sprintf("%T", m)[1:], reflect.ValueOf(m).Elem(), reflect.ValueOf(again).Elem(), survived, fields)
				if kind != kindClaimed && kind != kindRaised && kind != kindHeader {
					keepFilled(t, l, m)
				}
			})
		}
	}
	for f := range fields {
		// A session is read when a request is accepted, and gone then; keys are what their
		// owner has made of the fields of the record.
		if !survived[f] && !strings.HasSuffix(f, ".Session") && f != "runtime.stateChanged.keys" {
			t.Errorf("%s does not come back from the bytes of its record", f)
		}
	}
	for _, thing := range []any{entry{}, homeEntry{}, ending{}, actorEntry{}, zombie{}, hostEntry{}, reminderEntry{}, groupEntry{}, subEntry{}, appEntry{}, outbox{}, Request{}, Outcome{}, Reminder{}, Subscription{}, serviceFact{}} {
		typ := reflect.TypeOf(thing)
		for i := range typ.NumField() {
			if f := typ.Name() + "." + typ.Field(i).Name; !memoryOnly[f] && !l.seen[f] && !neverKept[f] {
				t.Errorf("no record leads to a value of %s", f)
			}
		}
	}
}

// neverKept are durable fields that are compared by other means.
var neverKept = map[string]bool{
	"outbox.next": true, "outbox.first": true, "outbox.pending": true, // lines of their own
	"Request.Session": true, "Request.first": true, // first: set by the next step alone
	"entry.alone": true, // by two records: what has started, and that its host is lost
}

// TestFilledHeader: all that a header carries is there behind a cut; from level
// 2 on facts are kept like everything else.
func TestFilledHeader(t *testing.T) {
	for level := 1; level <= Level; level++ {
		h := &header{}
		fill(reflect.ValueOf(h).Elem(), "header", true)
		h.level = level
		r := &Record{Epoch: 5, Owner: 6, Seq: 7, Body: h}
		c := New(filledConfig())
		if ok, err := c.Fold(EncodeRecord(r)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		c.me, c.owner, c.owned = 6, 6, true
		now := Now{Wall: 9, Mono: 9}
		c.Step(now, &Mark{})
		c.Step(now, &Keep{Before: c.Seq(), Limit: 100})
		records, _ := c.Take()
		d := New(filledConfig())
		for _, b := range records {
			if ok, err := d.Fold(b); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if diff := differences(durable(c), durable(d), func(string) bool { return false }); diff != "" {
			t.Errorf("level %d: %s", level, diff)
		}
		if n := len(durable(c)); n < 9 {
			t.Errorf("level %d: the header says only %v", level, durable(c))
		}
		if x, _ := DecodeRecord(records[0]); level > 1 && len(x.Body.(*header).apps)+len(x.Body.(*header).lost) > 0 {
			t.Errorf("level %d: the header has lists without a bound", level)
		}
	}
}

func filledConfig() Config {
	return Config{Mesh: "x", Partition: 1, Partitions: 4, Node: "g", Lease: 6000, IDWindow: 600_000, ResultRetention: 86_400_000}
}

// keepFilled folds a log that ends in the record, takes it over, keeps
// everything, and compares what the logs with and without the cut tell.
func keepFilled(t *testing.T, l *lister, m message) {
	prelude := []message{&subscribed{}, &reminderSet{}, &accepted{}}
	for _, p := range prelude {
		fill(reflect.ValueOf(p).Elem(), reflect.TypeOf(p).Elem().Name(), true)
	}
	// The prelude leaves no answer under the id that all records have.
	prelude[0].(*subscribed).done, prelude[1].(*reminderSet).done = done{}, done{}
	now := Now{Wall: 2, Mono: 1_000_000}
	c := New(filledConfig())
	var full [][]byte
	fold := func(c *Core, b []byte) {
		if ok, err := c.Fold(b); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	add := func(b []byte) { full = append(full, b); fold(c, b) }
	add(c.Claim(now))
	for i, b := range append(prelude, m) {
		r := &Record{Epoch: 1, Owner: c.owner, Seq: uint64(i + 2), Body: b}
		if i == len(prelude) {
			r.Out = []OutMessage{{To: 2, N: 1, Payload: []byte("x")}}
			if _, ok := b.(*completed); ok {
				r.Out = nil // this is the home of the request
			}
		}
		add(EncodeRecord(r))
	}
	l.durable(c)
	add(c.Claim(now))
	c.TakeChanges()
	if !c.Own(now, c.Seq()) {
		t.Fatal("not owned")
	}
	c.Step(now, &Mark{})
	header, before := len(full)+c.Pending()-1, c.Seq()
	for c.OldestLive() < before {
		c.Step(now, &Keep{Before: before, Limit: 3})
	}
	records, _ := c.Take()
	full = append(full, records...)
	whole, trimmed := New(filledConfig()), New(filledConfig())
	for _, b := range full {
		fold(whole, b)
	}
	for _, b := range full[header:] {
		fold(trimmed, b)
	}
	if d := differences(durable(whole), durable(trimmed), isForgettable); d != "" {
		t.Errorf("the trimmed log tells otherwise\n%s", d)
	}
	if d := differences(durable(c), durable(trimmed), func(string) bool { return false }); d != "" {
		t.Errorf("the trimmed log tells otherwise than the owner\n%s", d)
	}
}

// variants are the message with all its flags set, with each one cleared, and with all cleared.
func variants(m message) []message {
	typ := reflect.TypeOf(m).Elem()
	made := func() (message, reflect.Value) {
		v := reflect.New(typ)
		fill(v.Elem(), typ.Name(), true)
		return v.Interface().(message), v.Elem()
	}
	all, _ := made()
	ms := []message{all}
	none, v := made()
	for i := range typ.NumField() {
		if typ.Field(i).Type.Kind() == reflect.Bool {
			one, w := made()
			reach(w.Field(i)).SetBool(false)
			reach(v.Field(i)).SetBool(false)
			ms = append(ms, one)
		}
	}
	return append(ms, none)
}

// reach makes a field that is not exported writable.
func reach(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
}

// fill gives every field a value that fits: one id, one actor, one request.
func fill(v reflect.Value, name string, flags bool) {
	v = reach(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), v.Type().Field(i).Name, flags)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("x"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, flags)
	case reflect.Array:
		v.Set(reflect.ValueOf(NewID(1, 1, "x", [6]byte{1})))
	case reflect.Map:
		v.Set(reflect.ValueOf(Header{"X": {"x"}}))
	case reflect.String:
		v.SetString("x")
		if name == "group" {
			v.SetString(New(Config{}).groupKey(&Subscription{Group: "x", Topic: "x"}))
		}
	case reflect.Bool:
		v.SetBool(flags)
	case reflect.Int, reflect.Int64:
		v.SetInt(map[string]int64{"partitions": 4, "level": 2}[name])
		if v.Int() == 0 {
			v.SetInt(3)
		}
	case reflect.Uint64:
		v.SetUint(3)
		if name == "phase" {
			v.SetUint(uint64(running))
		}
	default: // partitions, kinds, steps, attempts
		v.SetUint(1)
	}
}

// compareFields notes which fields there are, and which have survived.
func compareFields(path string, a, b reflect.Value, survived, fields map[string]bool) {
	if a.Kind() == reflect.Struct {
		for i := range a.NumField() {
			compareFields(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i), survived, fields)
		}
		return
	}
	fields[path] = true
	if reflect.DeepEqual(reach(a).Interface(), reach(b).Interface()) {
		survived[path] = true
	}
}

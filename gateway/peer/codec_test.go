package peer

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// fill sets every field that goes over the wire to something that is not zero;
// with empty, what can be empty without being nil is.
func fill(v reflect.Value, n *int, empty bool) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%250 + 1))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(-int64(*n%120 + 1))
	case reflect.String:
		v.SetString(fmt.Sprint("s\x00", *n))
	case reflect.Array:
		fill(v.Index(v.Len()-1), n, empty)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for range 3 {
			if empty {
				return
			}
			e := reflect.New(v.Type().Elem()).Elem()
			fill(e, n, false)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		if !empty {
			v.Set(reflect.ValueOf(runtime.Header{"A": {"1", "", "2"}, "Content-Type": {}, "": {fmt.Sprint(*n)}}))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if !empty || v.Type().Elem().Kind() == reflect.Struct {
			fill(v.Elem(), n, empty)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Type.Kind() != reflect.Interface && f.Type != reflect.TypeFor[*runtime.View]() {
				fill(v.Field(i), n, empty)
			}
		}
	default:
		panic(v.Kind())
	}
}

func filled(empty bool) *frame {
	f, n := &frame{}, 0
	fill(reflect.ValueOf(f).Elem(), &n, empty)
	return f
}

func format(t testing.TB) frames {
	t.Helper()
	x, err := newFrames()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func copied(t testing.TB, x frames, f *frame) *frame {
	t.Helper()
	b, err := x.put(nil, f, maxFrame)
	if err != nil {
		t.Fatal(err)
	}
	g := &frame{}
	if err := x.get(g, b[headSize:]); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestEveryFieldSurvives holds for fields that are still to come.
func TestEveryFieldSurvives(t *testing.T) {
	x := format(t)
	for _, f := range []*frame{filled(false), filled(true), {}, {Op: &engine.Op{HandOver: &engine.HandOverOp{}}}, {Result: &engine.Result{}}} {
		if g := copied(t, x, f); !reflect.DeepEqual(f, g) {
			t.Errorf("%+v became %+v", f, g)
		}
	}
}

func TestEmptyIsNotNil(t *testing.T) {
	x := format(t)
	reason := ""
	f := copied(t, x, &frame{
		Note:   &engine.Note{Host: &engine.HostNote{Down: &reason}},
		Result: &engine.Result{State: &runtime.StateResult{Found: true, Value: []byte{}}},
	})
	if f.Note.Host.Down == nil || f.Result.State.Value == nil || f.Result.Value != nil {
		t.Errorf("%+v, %+v", f.Note.Host, f.Result)
	}
}

// TestWaitersStayHere: what belongs to one process is not sent.
func TestWaitersStayHere(t *testing.T) {
	f := copied(t, format(t), &frame{Op: &engine.Op{Await: &runtime.Await{App: "a", Waiter: make(chan int), View: &runtime.View{Applied: 3}}}})
	if *f.Op.Await != (runtime.Await{App: "a"}) {
		t.Errorf("%+v", f.Op.Await)
	}
}

// TestNothingElseIsLeftOut: the fields that do not travel are these. Sum and
// first of a request are set by the owner once it has accepted it.
func TestNothingElseIsLeftOut(t *testing.T) {
	var lost []string
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			walk(typ.Elem())
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				f := typ.Field(i)
				if name := typ.Name() + "." + f.Name; !f.IsExported() || f.Type.Kind() == reflect.Interface && f.Name != "Waiter" {
					lost = append(lost, name)
				} else if f.Type != reflect.TypeFor[*runtime.View]() {
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[frame]())
	if slices.Sort(lost); !slices.Equal(lost, []string{"Request.first", "Request.sum"}) {
		t.Errorf("left out: %v", lost)
	}
}

// TestOtherVersions: fields may come, go and move.
func TestOtherVersions(t *testing.T) {
	type inner struct{ X int }
	type old struct {
		A     string
		Gone  []inner
		B     uint64
		Inner *inner
	}
	type newer struct {
		New   *inner
		Inner *inner
		B     uint64
		A     string
		More  map[string][]string
	}
	oldFields, err := fieldsOf(reflect.TypeFor[old](), nil)
	if err != nil {
		t.Fatal(err)
	}
	newFields, err := fieldsOf(reflect.TypeFor[newer](), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := putFields(oldFields, nil, reflect.ValueOf(&old{"a", []inner{{1}, {2}}, 7, &inner{-5}}).Elem())
	var n newer
	if err := getFields(newFields, reflect.ValueOf(&n).Elem(), b); err != nil || n.A != "a" || n.B != 7 || n.Inner.X != -5 {
		t.Errorf("%+v, %v", n, err)
	}
	b = putFields(newFields, nil, reflect.ValueOf(&newer{New: &inner{1}, B: 7, A: "a"}).Elem())
	var o old
	if err := getFields(oldFields, reflect.ValueOf(&o).Elem(), b); err != nil || o.A != "a" || o.B != 7 || o.Gone != nil {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestCutFramesAreRefusedOrOther(t *testing.T) {
	x := format(t)
	whole := filled(false)
	b, err := x.put(nil, whole, maxFrame)
	if err != nil {
		t.Fatal(err)
	}
	b = b[headSize:]
	for n := 0; n < len(b); n += 7 {
		g := &frame{}
		if x.get(g, b[:n]) == nil && reflect.DeepEqual(g, whole) {
			t.Errorf("cut to %d of %d bytes it reads as the whole", n, len(b))
		}
	}
}

func TestFrameAboveTheLimitLeavesNothing(t *testing.T) {
	b, err := format(t).put([]byte("before"), &frame{Result: &engine.Result{Value: make([]byte, 5000)}}, 4000)
	if err == nil || !strings.Contains(err.Error(), "the limit is 4000") || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestClaimedSizesCostNothing: a frame of a few bytes that claims thousands of
// millions of things is refused without room being made for them.
func TestClaimedSizesCostNothing(t *testing.T) {
	x := format(t)
	claim := []byte{0xff, 0xff, 0xff, 0xff, 0x7f}
	inside := append([]byte{1, 'A'}, claim...)
	header := append([]byte{byte(len(inside))}, inside...)
	outcome := append(tag("Header"), header...)
	result := append(tag("Outcome"), append([]byte{byte(len(outcome))}, outcome...)...)
	b := append(tag("Result"), append([]byte{byte(len(result))}, result...)...)
	for _, b := range [][]byte{b, append(tag("Result"), claim...), append(tag("Note"), claim...)} {
		if allocated := testing.AllocsPerRun(10, func() {
			if x.get(&frame{}, b) == nil {
				t.Error("it was read")
			}
		}); allocated > 20 {
			t.Errorf("%f allocations", allocated)
		}
	}
}

func tag(name string) []byte {
	n := number(name)<<1 | 1
	return []byte{byte(n) | 0x80, byte(n>>7) | 0x80, byte(n >> 14)}
}

func sampleOp() *frame {
	return &frame{Seq: 500, Op: &engine.Op{Partition: 3, Epoch: 7, Submit: &engine.SubmitOp{Request: runtime.Request{
		ID: runtime.ID{1, 2, 3, 15: 9}, Target: runtime.Target{App: "hello", Type: "Account", ID: "account-17"}, Method: "POST", Path: "/deposit",
		Body: bytes.Repeat([]byte("x"), 200), Boot: "0123456789abcdef0123456789abcdef", NoHost: 120000, Busy: 120000,
	}}}}
}

func sampleResult() *frame {
	return &frame{Seq: 500, Result: &engine.Result{ID: runtime.ID{1, 2, 3, 15: 9}, Outcome: &runtime.Outcome{
		Status: 200, Header: runtime.Header{"Content-Type": {"application/kar+json"}}, Body: bytes.Repeat([]byte("x"), 200),
	}}}
}

// FuzzFrame: no input panics, and what is read says the same when written again.
func FuzzFrame(f *testing.F) {
	x := format(f)
	for _, s := range []*frame{filled(false), filled(true), sampleOp(), sampleResult(), {}} {
		b, err := x.put(nil, s, maxFrame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[headSize:])
	}
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g frame
		if x.get(&g, b) != nil {
			return
		}
		if h := copied(t, x, &g); !reflect.DeepEqual(&g, h) {
			t.Fatalf("%+v became %+v", g, h)
		}
	})
}

// BenchmarkFrames is an op and its result, both written and read.
func BenchmarkFrames(b *testing.B) {
	x := format(b)
	pair := []*frame{sampleOp(), sampleResult()}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range pair {
			buf, _ = x.put(buf[:0], f, maxFrame)
			if err := x.get(&frame{}, buf[headSize:]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

package engine

import (
	"reflect"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Whoever asks is answered: what an op becomes has its waiter, whatever it is, or the op
// is answered in another way.
func TestEachOpHasItsWaiter(t *testing.T) {
	otherwise := map[string]bool{"Submit": true, "Await": true, "State": true, "Known": true, "Publish": true, "HandOver": true}
	of := reflect.TypeFor[Op]()
	n := 0
	for i := range of.NumField() {
		f := of.Field(i)
		if f.Type.Kind() != reflect.Pointer || otherwise[f.Name] {
			continue
		}
		op := reflect.New(of)
		op.Elem().Field(i).Set(reflect.New(f.Type.Elem()))
		w := newWaiter()
		in := op.Interface().(*Op).input(w)
		if in == nil {
			t.Errorf("%s is no input", f.Name)
		} else if runtime.WaiterOf(in) != any(w) {
			t.Errorf("%s has no waiter", f.Name)
		}
		n++
	}
	if n < 9 {
		t.Errorf("%d ops were looked at", n)
	}
}

package engine

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// Pages of active actors cross the wire; what an owner of before them lists is one page,
// the last, and what it is asked without a limit has the old shape.
func TestActivePagesCrossTheWire(t *testing.T) {
	as := []runtime.Actor{{App: "dp", Type: "A", ID: "1"}, {App: "dp", Type: "A", ID: "2"}}
	for _, x := range []struct {
		limit  int
		answer any
		want   runtime.ActivePage
	}{
		{1000, runtime.ActivePage{Actors: as, Next: "2 1 h"}, runtime.ActivePage{Actors: as, Next: "2 1 h"}},
		{1000, runtime.ActivePage{}, runtime.ActivePage{}},
		{1000, as, runtime.ActivePage{Actors: as}},
		{1000, []runtime.Actor(nil), runtime.ActivePage{}},
	} {
		op := &Op{Query: &runtime.Query{Kind: runtime.QueryActive, App: "dp", Limit: x.limit}}
		b, err := json.Marshal(result(reply{value: x.answer}, nil))
		if err != nil {
			t.Fatal(err)
		}
		var res Result
		if err := json.Unmarshal(b, &res); err != nil {
			t.Fatal(err)
		}
		rep, err := res.reply(op)
		if got := pageOf(rep.value); err != nil || !reflect.DeepEqual(got, x.want) {
			t.Errorf("%v became %v: %v", x.answer, got, err)
		}
	}
	b, _ := json.Marshal(as)
	rep, err := (&Result{Value: b}).reply(&Op{Query: &runtime.Query{Kind: runtime.QueryActive}})
	if got, _ := rep.value.([]runtime.Actor); err != nil || len(got) != 2 {
		t.Errorf("without a limit: %v, %v", rep.value, err)
	}
}

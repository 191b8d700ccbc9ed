package runtime

import (
	"reflect"
	"slices"
	"testing"
)

// The sizes that decide whether a record fits grow by all that a caller may make
// longer; what they leave out has a bound of its own.
func TestSizesCountAllThatVaries(t *testing.T) {
	bounded := []string{
		"Request.Session",                                                                      // is read and not recorded
		"Request.first.App", "Request.first.Service", "Request.first.Type", "Request.first.ID", // a target that was counted
	}
	const more = 1000
	for _, x := range []struct {
		of    any
		bytes func(any) int
	}{
		{&Request{}, func(x any) int { return x.(*Request).bytes() }},
		{&Outcome{}, func(x any) int { return x.(*Outcome).bytes() }},
		{&Reminder{}, func(x any) int { return x.(*Reminder).bytes() }},
		{&Subscription{}, func(x any) int { return x.(*Subscription).bytes() }},
		{&Field{}, func(x any) int { return x.(*Field).bytes() }},
	} {
		empty := x.bytes(x.of)
		if empty < 0 {
			t.Errorf("%T has %d bytes", x.of, empty)
		}
		var walk func(name string, v reflect.Value)
		walk = func(name string, v reflect.Value) {
			v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem() // also what is not exported
			var long reflect.Value
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					walk(name+"."+v.Type().Field(i).Name, v.Field(i))
				}
				return
			case reflect.String:
				long = reflect.ValueOf(string(make([]byte, more))).Convert(v.Type())
			case reflect.Slice:
				long = reflect.ValueOf(make([]byte, more))
			case reflect.Map:
				long = reflect.ValueOf(Header{"Name": {string(make([]byte, more/2)), string(make([]byte, more/2))}})
			default:
				return // a number
			}
			v.Set(long)
			defer v.SetZero()
			if n := x.bytes(x.of); n-empty < more && !slices.Contains(bounded, name) {
				t.Errorf("%s with %d bytes more has %d more", name, more, n-empty)
			}
		}
		v := reflect.ValueOf(x.of).Elem()
		walk(v.Type().Name(), v)
	}
}

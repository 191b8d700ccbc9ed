package tunnel

import (
	"maps"
	"slices"
	"testing"

	"github.com/karmesh/kar/runtime"
)

// TestHeadersOfTheOtherEndAreClean: names become canonical, what belongs to a
// connection and what HTTP cannot carry does not come through, in any message.
func TestHeadersOfTheOtherEndAreClean(t *testing.T) {
	sent := runtime.Header{
		"transfer-encoding": {"chunked"}, "CONTENT-TYPE": {"text/plain"}, "kar-error": {"x"}, "x-a": {"1"}, "X-A": {"2"},
		"connection": {"close, X-Gone"}, "x-gone": {"1"}, "bad name": {"1"}, "X-Split\r\nSet-Cookie": {"1"},
		"X-Value": {"a\r\nSet-Cookie: b", "good"}, "": {"1"},
	}
	of := map[string]func(Message) runtime.Header{
		"answer":   func(m Message) runtime.Header { return m.(*Answer).Outcome.Header },
		"request":  func(m Message) runtime.Header { return m.(*Request).Header },
		"response": func(m Message) runtime.Header { return m.(*Response).Header },
		"invoke":   func(m Message) runtime.Header { return m.(*runtime.Invoke).Header },
	}
	for name, m := range map[string]Message{
		"answer":   &Answer{runtime.Answer{Outcome: &runtime.Outcome{Status: 200, Header: sent}}},
		"request":  &Request{Seq: 1, Header: sent},
		"response": &Response{Seq: 1, Status: 200, Header: sent},
		"invoke":   &runtime.Invoke{Header: sent},
	} {
		head, body := encode(nil, m)
		got, err := decode(append(head, body...))
		if err != nil {
			t.Fatal(err)
		}
		h := of[name](got)
		names := slices.Sorted(maps.Keys(h))
		if want := []string{"Content-Type", "Kar-Error", "X-A", "X-Value"}; !slices.Equal(names, want) {
			t.Errorf("%s: the fields are %q", name, names)
		}
		if len(h["X-A"]) != 2 || !slices.Equal(h["X-Value"], []string{"a  Set-Cookie: b", "good"}) {
			t.Errorf("%s: %v", name, h)
		}
	}
}

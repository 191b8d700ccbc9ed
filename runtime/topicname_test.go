package runtime

import (
	"strings"
	"testing"
)

func TestTopicNamesAreOneRule(t *testing.T) {
	for name, ok := range map[string]bool{
		"t": true, "a.b_c-D9": true, "_orders": true, ".x": true, "kar.x": true, "_karx": true, "_ka": true, strings.Repeat("x", 249): true,
		"": false, ".": false, "..": false, "a b": false, "ü": false, "a/b": false, strings.Repeat("x", 250): false,
		// Kafka's own and the mesh's, and what Kafka takes for them.
		"__consumer_offsets": false, "__orders": false, "._x": false, "_.x": false, "..x": false,
		"_kar.m.log": false, "_kar_m_topics": false, ".kar_m_log": false, ".kar.m.log": false, "_kar._": false, "_kar_": false,
	} {
		if err := CheckTopicName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestEventBodyNeverChanges: what was published arrives whole, or in a form that says what was done to it.
func TestEventBodyNeverChanges(t *testing.T) {
	for _, c := range []struct{ contentType, body, want string }{
		{"", `{"a":1}`, `[{"a":1}]`}, {"application/json; charset=utf-8", `"é"`, `["é"]`}, {"application/cloudevents+json", "1", "[1]"},
		{"text/plain", "1", `["1"]`}, {"", "", `[""]`}, {"", "{", `["{"]`}, {"text/plain", "é\n\x00", `["é\n\u0000"]`},
		{"text/plain", "\uFFFD", "[\"\uFFFD\"]"}, // that is text
		{"application/octet-stream", "\x80\xff\x00", `[{"data_base64":"gP8A"}]`},
		{"text/plain; charset=iso-8859-1", "caf\xe9", `[{"data_base64":"Y2Fm6Q=="}]`},
		{"text/plain; charset=utf-16", "\xff\xfeh\x00", `[{"data_base64":"//5oAA=="}]`},
		{"application/json", "\"caf\xe9\"", `[{"data_base64":"ImNhZuki"}]`}, // no JSON, though parsers here let it pass
		{"", "\"\xed\xa0\x80\"", `[{"data_base64":"Iu2ggCI="}]`},
	} {
		if got := string(eventBody(c.contentType, []byte(c.body))); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.contentType, c.body, got, c.want)
		}
	}
}

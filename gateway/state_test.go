package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
)

func TestStateOfOneKey(t *testing.T) {
	w := newWorld(t)
	const s = "/actor/T/i/state"
	w.expect("GET", s+"/k", "", 404, "Not Found\n")
	w.expect("HEAD", s+"/k", "", 404, "")
	w.expect("HEAD", s+"/k?nilOnAbsent=true", "", 404, "")
	h := w.expect("GET", s+"/k?nilOnAbsent=true", "", 200, "")
	if h["Content-Type"] != nil {
		t.Errorf("absent value has Content-Type %q", h["Content-Type"])
	}
	if h := w.expect("PUT", s+"/k", `{"a" : 1}`, 201, ""); h.Get("Location") != "/apps/a/kar/v1/actor/T/i/state/k" {
		t.Errorf("Location %q", h.Get("Location"))
	}
	if h := w.expect("GET", s+"/k", "", 200, `{"a" : 1}`); h.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("HEAD", s+"/k", "", 200, "")
	w.expect("PUT", s+"/k", `not json`, 204, "")
	w.expect("GET", s+"/k", "", 200, `not json`)
	if h := w.expect("DELETE", s+"/k", "", 200, "1"); h.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("DELETE", s+"/k?nilOnAbsent=true", "", 200, "0")
	w.expect("PUT", s+"/empty", "", 201, "")
	w.expect("GET", s+"/empty", "", 200, "")
}

func TestStateOfSubmaps(t *testing.T) {
	w := newWorld(t)
	const s = "/actor/T/i/state"
	for _, op := range []struct{ op, empty string }{{"get", "{}"}, {"keys", "[]"}, {"size", "0"}, {"clear", "0"}} {
		w.expect("POST", s+"/m", `{"op":"`+op.op+`"}`, 200, op.empty)
	}
	if h := w.expect("PUT", s+"/m/x", `1`, 201, ""); h.Get("Location") != "/apps/a/kar/v1/actor/T/i/state/m/x" {
		t.Errorf("Location %q", h.Get("Location"))
	}
	w.expect("PUT", s+"/m/x", `2`, 204, "")
	w.expect("PUT", s+"/m/*", `[3]`, 201, "")
	w.expect("PUT", s+"/m", `"plain"`, 201, "") // no clash with the submap
	w.expect("PUT", s+"/mm/x", `9`, 201, "")    // nor with a longer name
	w.expect("GET", s+"/m/x", "", 200, `2`)
	w.expect("GET", s+"/m/y", "", 404, "Not Found\n")
	w.expect("HEAD", s+"/m/y", "", 404, "")
	w.expect("GET", s+"/m/y?nilOnAbsent=true", "", 200, "")
	w.expect("POST", s+"/m", `{"op":"get"}`, 200, `{"*":[3],"x":2}`)
	w.expect("POST", s+"/m", `{"op":"keys"}`, 200, `["*","x"]`)
	w.expect("POST", s+"/m", `{"op":"size"}`, 200, `2`)
	w.expect("DELETE", s+"/m/x", "", 200, "1")
	w.expect("DELETE", s+"/m/x", "", 200, "0")
	w.expect("POST", s+"/m", `{"op":"clear"}`, 200, `1`)
	w.expect("GET", s+"/m", "", 200, `"plain"`)
	for body, text := range map[string]string{
		`{"op":"sum"}`: `Unsupported map operation "sum"; use get, keys, size or clear`,
		`nonsense`:     `Request body was not a MapOp: invalid character 'o' in literal null (expecting 'u') at byte 2`,
	} {
		w.expect("POST", s+"/m", body, 400, text+"\n"+runtime.CodeBadRequest.Hint()+"\n")
	}
}

func TestWholeState(t *testing.T) {
	w := newWorld(t)
	const s = "/actor/T/i/state"
	w.expect("GET", s, "", 200, "{}")
	w.expect("DELETE", s, "", 200, "0")
	w.expect("POST", s, `{"updates":{"u_v":5,"b":null},"submapupdates":{"m":{"x":{"y":1},"_":"z"}}}`, 200, `{"removed":0,"added":4}`)
	if h := w.expect("GET", s, "", 200, `{"b":null,"m":{"_":"z","x":{"y":1}},"u_v":5}`); h.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	w.expect("POST", s, `{"updates":{"b":1,"c":2},"removals":["u_v","none"],"submapremovals":{"m":["x","none"]}}`, 200, `{"removed":2,"added":1}`)
	w.expect("GET", s, "", 200, `{"b":1,"c":2,"m":{"_":"z"}}`)
	w.expect("POST", s, `{}`, 200, `{"removed":0,"added":0}`)
	for _, body := range []string{"", "[1]", `{"updates":[]}`, `{"removals":[""]}`, `{"submapupdates":{"m":{"":1}}}`} {
		if status, _, h := w.send("POST", s, body); status != 400 || h.Get("Kar-Error") != "bad_request" {
			t.Errorf("%s: %d %v", body, status, h)
		}
	}
	w.expect("DELETE", s, "", 200, "1")
	w.expect("GET", s, "", 200, "{}")
}

// TestStateObjectIsAlwaysJSON covers what KAR 1.x answered with a dropped
// connection: a clash of key and submap, and a value that is not JSON.
func TestStateObjectIsAlwaysJSON(t *testing.T) {
	got := stateObject([]runtime.Field{
		{Key: "bad", Value: []byte("{")},
		{Key: "both", Value: []byte("1")},
		{Key: "both", Sub: "x", InMap: true, Value: []byte("2")},
		{Key: "map", Sub: "x", InMap: true, Value: []byte("\xff")},
		{Key: `q"`, Value: nil},
	})
	if !json.Valid(got) || string(got) != `{"bad":"{","both":1,"map":{"x":"\ufffd"},"q\"":""}` {
		t.Errorf("%s", got)
	}
}

// One change has a bound in keys, whatever their size; the answer says so.
func TestUpdateOfManyKeys(t *testing.T) {
	w := newWorld(t)
	body := func(n int) string {
		var b strings.Builder
		for i := range n - 3 {
			fmt.Fprintf(&b, `,"k%d":1`, i)
		}
		return `{"removals":["a"],"submapremovals":{"m":["b"]},"submapupdates":{"m":{"c":1}},"updates":{` + b.String()[1:] + `}}`
	}
	const s = "/actor/T/i/state"
	if h := w.expect("POST", s, body(10_001), 413, "the change of state has 10001 keys, the limit is 10000; make several changes of it\n"+runtime.CodeTooLarge.Hint()+"\n"); h.Get("Kar-Error") != "too_large" {
		t.Errorf("%v", h)
	}
	w.expect("GET", s, "", 200, "{}")
	w.expect("POST", s, body(10_000), 200, `{"removed":0,"added":9998}`)
}

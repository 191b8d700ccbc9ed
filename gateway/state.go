package gateway

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/karmesh/kar/runtime"
)

// state carries out one operation on the actor of the path.
func (x *exchange) state(op runtime.StateOp) (runtime.StateResult, error) {
	op.Actor, op.Boot, op.ID = x.actor(), x.caller.Boot, x.caller.ID
	return x.mesh.State(x.r.Context(), op)
}

func (x *exchange) getKey() error {
	return x.get(runtime.StateOp{Verb: runtime.StateGet, Key: x.names[3]})
}

func (x *exchange) getSubkey() error {
	return x.get(runtime.StateOp{Verb: runtime.StateGet, Key: x.names[3], Sub: x.names[4], InMap: true})
}

// get answers with the bytes as they were stored; it serves HEAD as well.
func (x *exchange) get(op runtime.StateOp) error {
	res, err := x.state(op)
	switch {
	case err != nil:
		return err
	case res.Found:
		return x.bytes(http.StatusOK, "application/json", res.Value)
	case x.nilOnAbsent() && x.r.Method == http.MethodGet:
		return x.empty(http.StatusOK)
	}
	return x.text(http.StatusNotFound, "Not Found\n")
}

func (x *exchange) setKey() error {
	return x.set(runtime.StateOp{Verb: runtime.StateSet, Key: x.names[3]})
}

func (x *exchange) setSubkey() error {
	return x.set(runtime.StateOp{Verb: runtime.StateSet, Key: x.names[3], Sub: x.names[4], InMap: true})
}

// set stores the body as it is: 201 with a Location when the entry is new, else 204.
func (x *exchange) set(op runtime.StateOp) error {
	body, err := x.body()
	if err != nil {
		return err
	}
	op.Value = body
	res, err := x.state(op)
	if err != nil {
		return err
	}
	if !res.Created {
		return x.empty(http.StatusNoContent)
	}
	path := []string{"actor", x.names[1], x.names[2], "state", op.Key}
	if op.InMap {
		path = append(path, op.Sub)
	}
	x.w.Header().Set("Location", x.location(path...))
	return x.empty(http.StatusCreated)
}

// location is the path of a resource as the client sees it: a client of a
// sidecar sees no app in its paths.
func (x *exchange) location(segments ...string) string {
	path := "/kar/v1"
	if x.caller.Boot == "" {
		path = "/apps/" + url.PathEscape(x.app()) + path
	}
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	return path
}

func (x *exchange) deleteKey() error {
	return x.remove(runtime.StateOp{Verb: runtime.StateDelete, Key: x.names[3]})
}

func (x *exchange) deleteSubkey() error {
	return x.remove(runtime.StateOp{Verb: runtime.StateDelete, Key: x.names[3], Sub: x.names[4], InMap: true})
}

func (x *exchange) clearState() error { return x.remove(runtime.StateOp{Verb: runtime.StateClear}) }

func (x *exchange) remove(op runtime.StateOp) error {
	res, err := x.state(op)
	if err != nil {
		return err
	}
	return x.count(res.N)
}

// submap serves POST /state/{key}: {"op":"get|keys|size|clear"}.
func (x *exchange) submap() error {
	var ask struct {
		Op string `json:"op"`
	}
	if err := x.decode(&ask, runtime.CodeBadRequest, "Request body was not a MapOp"); err != nil {
		return err
	}
	op := runtime.StateOp{Verb: runtime.StateMap, Key: x.names[3]}
	switch ask.Op {
	case "get", "keys", "size":
	case "clear":
		op.Verb = runtime.StateMapClear
	default:
		return runtime.Errorf(runtime.CodeBadRequest, "Unsupported map operation %q; use get, keys, size or clear", clip(ask.Op, 40))
	}
	res, err := x.state(op)
	if err != nil {
		return err
	}
	switch ask.Op {
	case "get":
		return x.bytes(http.StatusOK, "application/json", submapObject(res.Fields))
	case "keys":
		keys := make([]string, len(res.Fields))
		for i, f := range res.Fields {
			keys[i] = f.Sub
		}
		return x.json(http.StatusOK, keys)
	case "size":
		return x.json(http.StatusOK, len(res.Fields))
	}
	return x.json(http.StatusOK, res.N)
}

// allState serves GET /state: plain keys at the top, submaps as objects.
func (x *exchange) allState() error {
	res, err := x.state(runtime.StateOp{Verb: runtime.StateAll})
	if err != nil {
		return err
	}
	return x.bytes(http.StatusOK, "application/json", stateObject(res.Fields))
}

// stateObject writes sorted fields. Where a plain key and a submap have the
// same name the plain key is shown; POST /state/{key} shows the submap.
func stateObject(fields []runtime.Field) []byte {
	var out bytes.Buffer
	out.WriteByte('{')
	for i := 0; i < len(fields); {
		key, end := fields[i].Key, i+1
		for end < len(fields) && fields[end].Key == key {
			end++
		}
		group := fields[i:end]
		plain := slices.IndexFunc(group, func(f runtime.Field) bool { return !f.InMap })
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		writeName(&out, key)
		if plain >= 0 {
			writeValue(&out, group[plain].Value)
		} else {
			out.Write(submapObject(group))
		}
		i = end
	}
	out.WriteByte('}')
	return out.Bytes()
}

func submapObject(fields []runtime.Field) []byte {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			out.WriteByte(',')
		}
		writeName(&out, f.Sub)
		writeValue(&out, f.Value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

func writeName(out *bytes.Buffer, name string) {
	out.Write(quote(name))
	out.WriteByte(':')
}

// writeValue writes a stored value. Values are not checked when they are
// stored; one that is not JSON appears as a string, so that the whole is.
func writeValue(out *bytes.Buffer, value []byte) {
	if json.Valid(value) {
		out.Write(value)
		return
	}
	out.Write(quote(string(value)))
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string: cannot happen
		return []byte(`""`)
	}
	return b
}

// A stateUpdate is the body of POST /state.
type stateUpdate struct {
	Updates        map[string]json.RawMessage            `json:"updates"`
	SubmapUpdates  map[string]map[string]json.RawMessage `json:"submapupdates"`
	Removals       []string                              `json:"removals"`
	SubmapRemovals map[string][]string                   `json:"submapremovals"`
}

// updateState serves POST /state: removals, then updates, in one atomic step.
func (x *exchange) updateState() error {
	var u stateUpdate
	if err := x.decode(&u, runtime.CodeBadRequest, "Request body was not a StateUpdateOp"); err != nil {
		return err
	}
	op := runtime.StateOp{Verb: runtime.StateUpdate}
	if err := u.fill(&op); err != nil {
		return err
	}
	res, err := x.state(op)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		Removed int `json:"removed"`
		Added   int `json:"added"`
	}{res.Removed, res.Added})
}

// fill turns the update into fields in a fixed order.
func (u *stateUpdate) fill(op *runtime.StateOp) error {
	for _, key := range u.Removals {
		op.Removes = append(op.Removes, runtime.Field{Key: key})
	}
	for key, subs := range u.SubmapRemovals {
		for _, sub := range subs {
			op.Removes = append(op.Removes, runtime.Field{Key: key, Sub: sub, InMap: true})
		}
	}
	for key, value := range u.Updates {
		op.Sets = append(op.Sets, runtime.Field{Key: key, Value: value})
	}
	for key, subs := range u.SubmapUpdates {
		for sub, value := range subs {
			op.Sets = append(op.Sets, runtime.Field{Key: key, Sub: sub, InMap: true, Value: value})
		}
	}
	if err := op.Check(); err != nil {
		return err
	}
	for _, list := range [][]runtime.Field{op.Removes, op.Sets} {
		for _, f := range list {
			if f.Key == "" || (f.InMap && f.Sub == "") || len(f.Key) > maxName || len(f.Sub) > maxName {
				return runtime.Errorf(runtime.CodeBadRequest, "keys and subkeys must have 1 to %d bytes", maxName)
			}
		}
		slices.SortStableFunc(list, compareFields)
	}
	return nil
}

func compareFields(a, b runtime.Field) int {
	inMap := 0
	if a.InMap != b.InMap {
		inMap = 1
		if b.InMap {
			inMap = -1
		}
	}
	return cmp.Or(cmp.Compare(a.Key, b.Key), inMap, cmp.Compare(a.Sub, b.Sub))
}

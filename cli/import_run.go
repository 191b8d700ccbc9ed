package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/redis"
)

const (
	importWorkers = 8
	importBytes   = 1 << 20 // of values in one request
)

// An importer looks at everything before it writes anything, and looks again
// at the end.
type importer struct {
	old    *redis.Legacy
	to     *client
	flags  importFlags
	target string // where notes say that reminders went
	report importReport
	wrote  bool
	mu     sync.Mutex // of the report, while workers run

	actors  map[runtime.Actor]bool // those of KAR 1.x with state
	digests map[string]string      // by key, of what is taken over
	same    map[runtime.Actor]bool // the target has their state
	unsure  []string
}

func (m *importer) run(ctx context.Context) error {
	m.actors, m.digests, m.same = map[runtime.Actor]bool{}, map[string]string{}, map[runtime.Actor]bool{}
	keys, err := m.survey(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(m.report.Unknown) > 0 && !m.flags.ignoreUnknown:
		return runtime.Errorf(runtime.CodeBadFlag,
			"%d keys of the app are not understood, among them %s: name their layout with --state-prefix or --reminder-prefix, or leave them out with --ignore-unknown",
			len(m.report.Unknown), strings.Join(some(m.report.Unknown), ", "))
	case len(m.unsure) > 0 && !m.flags.guess:
		return runtime.Errorf(runtime.CodeBadFlag,
			"%d keys may be read in two ways, among them %s: name the types and submaps with --types and --submaps, or have names split at their first _ with --guess",
			len(m.unsure), strings.Join(some(m.unsure), ", "))
	}
	if err := m.compare(ctx); err != nil || m.flags.dryRun {
		return err
	}
	m.wrote = true
	if err := m.each(ctx, keys, m.take); err != nil {
		return err
	}
	return m.unchanged(ctx, keys)
}

// survey reads everything once, counts, and returns the keys to take over.
func (m *importer) survey(ctx context.Context) (keys []string, err error) {
	var all []string
	if err := m.old.Keys(ctx, func(key string) error { all = append(all, key); return nil }); err != nil {
		return nil, err
	}
	// States first: they tell which actors there are.
	later := all[:0:0]
	look := func(key string, known func(runtime.Actor) bool) error {
		item, err := m.old.Item(ctx, key, known)
		if err != nil {
			return err
		}
		switch item.Kind {
		case redis.LegacyReminderKey:
			if known == nil {
				later = append(later, key)
				return nil
			}
			m.report.Reminders++
		case redis.LegacyState:
			m.actors[item.Actor] = true
			m.report.Actors++
			m.report.Keys += len(item.Fields)
		case redis.LegacySubscription:
			m.report.Subscriptions++
			return nil
		case redis.LegacyPlacement:
			m.report.Placements++
			return nil
		case redis.LegacyGone, redis.LegacyOtherApp:
			return nil
		default:
			m.report.Unknown = append(m.report.Unknown, key)
			return nil
		}
		if item.Unsure {
			m.unsure = append(m.unsure, key)
		}
		m.digests[key] = item.Digest
		keys = append(keys, key)
		return nil
	}
	for _, key := range all {
		if err := look(key, nil); err != nil {
			return nil, err
		}
	}
	for _, key := range later {
		if err := look(key, m.known); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (m *importer) known(a runtime.Actor) bool { return m.actors[a] }

// compare refuses when the application has other state in the target.
func (m *importer) compare(ctx context.Context) error {
	instances := map[string][]string{}
	if err := m.to.getJSON(ctx, m.to.path("instances"), &instances); err != nil {
		return err
	}
	if len(instances) == 0 {
		return nil
	}
	there := map[runtime.Actor]bool{}
	for typ, ids := range instances {
		for _, id := range ids {
			there[runtime.Actor{App: m.to.app, Type: typ, ID: id}] = true
		}
	}
	var mu sync.Mutex
	var other []string
	note := func(a runtime.Actor) { other = append(other, a.Type+" "+a.ID) }
	err := m.each(ctx, slices.Collect(maps.Keys(m.digests)), func(ctx context.Context, key string) error {
		item, err := m.old.Item(ctx, key, m.known)
		if err != nil || item.Kind != redis.LegacyState {
			return err
		}
		mu.Lock()
		have := there[item.Actor]
		delete(there, item.Actor)
		mu.Unlock()
		if !have {
			return nil
		}
		state, err := m.targetState(ctx, item.Actor)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		switch whole, fits := compareState(item.Fields, state); {
		case !fits:
			note(item.Actor)
		case whole:
			m.same[item.Actor] = true
			m.report.ActorsThere++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for a := range there {
		have, err := m.targetState(ctx, a)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			note(a)
		}
	}
	if len(other) > 0 && !m.flags.overwrite {
		return runtime.Errorf(runtime.CodeInUse,
			"app %q has other state in the target already, of %d actors, among them %s: import into an app without state, or give --overwrite",
			m.to.app, len(other), strings.Join(some(other), ", "))
	}
	return nil
}

func (m *importer) targetState(ctx context.Context, a runtime.Actor) (map[string]json.RawMessage, error) {
	have := map[string]json.RawMessage{}
	err := m.to.getJSON(ctx, m.to.path("actor", a.Type, a.ID, "state"), &have)
	return have, err
}

// compareState: fits when the target has nothing but what is in fields, whole
// when it has all of it.
func compareState(fields []runtime.Field, have map[string]json.RawMessage) (whole, fits bool) {
	if len(have) == 0 {
		return len(fields) == 0, true
	}
	want := map[string]json.RawMessage{}
	submaps := map[string]map[string]json.RawMessage{}
	for _, f := range fields {
		value := f.Value
		if !json.Valid(value) {
			value, _ = json.Marshal(string(value))
		}
		if !f.InMap {
			want[f.Key] = value
			continue
		}
		if submaps[f.Key] == nil {
			submaps[f.Key] = map[string]json.RawMessage{}
		}
		submaps[f.Key][f.Sub] = value
	}
	whole = true
	for key, subs := range submaps {
		if _, plain := want[key]; plain {
			continue // the gateway shows the plain one; both are written together
		}
		var got map[string]json.RawMessage
		if have[key] == nil || json.Unmarshal(have[key], &got) != nil || got == nil {
			whole = false
			continue
		}
		if !contains(subs, got) {
			return false, false
		}
		whole = whole && len(got) == len(subs)
		want[key] = have[key]
	}
	if !contains(want, have) {
		return false, false
	}
	return whole && len(want) == len(have), true
}

// contains: every entry of part is in all, with the same value.
func contains(all, part map[string]json.RawMessage) bool {
	for key, value := range part {
		other, ok := all[key]
		if !ok || !sameJSON(value, other) {
			return false
		}
	}
	return true
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// each hands the keys to some workers and returns the first error.
func (m *importer) each(ctx context.Context, keys []string, do func(context.Context, string) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan string)
	var workers sync.WaitGroup
	for range importWorkers {
		workers.Go(func() {
			for key := range work {
				if err := do(ctx, key); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, key := range keys {
		select {
		case work <- key:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

// take takes over one key.
func (m *importer) take(ctx context.Context, key string) error {
	if ctx.Err() != nil {
		return nil
	}
	item, err := m.old.Item(ctx, key, m.known)
	switch {
	case err != nil:
		return err
	case item.Digest != m.digests[key]:
		return errChanged(key)
	case item.Kind == redis.LegacyState:
		return m.takeState(ctx, item)
	}
	return m.takeReminder(ctx, key, item)
}

func errChanged(key string) error {
	return runtime.Errorf(runtime.CodeInUse, "%s has changed meanwhile: KAR 1.x still runs. End its components and import again with --overwrite", key)
}

func (m *importer) takeState(ctx context.Context, item redis.LegacyItem) error {
	if m.same[item.Actor] {
		return nil
	}
	path := m.to.path("actor", item.Actor.Type, item.Actor.ID, "state")
	if m.flags.overwrite {
		if err := m.send(ctx, http.MethodDelete, path, nil); err != nil {
			return err
		}
	}
	type update struct {
		Updates map[string]json.RawMessage            `json:"updates"`
		Submaps map[string]map[string]json.RawMessage `json:"submapupdates"`
	}
	u, size := update{map[string]json.RawMessage{}, map[string]map[string]json.RawMessage{}}, 0
	flush := func() error {
		if size == 0 {
			return nil
		}
		body, err := json.Marshal(u)
		if err != nil {
			return err
		}
		clear(u.Updates)
		clear(u.Submaps)
		size = 0
		return m.send(ctx, http.MethodPost, path, body)
	}
	for _, f := range item.Fields {
		if !json.Valid(f.Value) || compacted(f.Value) != len(f.Value) {
			// As it is, byte for byte: KAR 1.x never looked into it.
			one := m.to.path("actor", item.Actor.Type, item.Actor.ID, "state", f.Key)
			if f.InMap {
				one = m.to.path("actor", item.Actor.Type, item.Actor.ID, "state", f.Key, f.Sub)
			}
			if err := m.send(ctx, http.MethodPut, one, f.Value); err != nil {
				return err
			}
			continue
		}
		if n := len(f.Key) + len(f.Sub) + len(f.Value); size > 0 && size+n > importBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		size += len(f.Key) + len(f.Sub) + len(f.Value) + 1
		if !f.InMap {
			u.Updates[f.Key] = f.Value
			continue
		}
		if u.Submaps[f.Key] == nil {
			u.Submaps[f.Key] = map[string]json.RawMessage{}
		}
		u.Submaps[f.Key][f.Sub] = f.Value
	}
	return flush()
}

// compacted is the length that json.Marshal gives a raw message.
func compacted(b []byte) int {
	out, err := json.Marshal(json.RawMessage(b))
	if err != nil {
		return -1
	}
	return len(out)
}

func (m *importer) takeReminder(ctx context.Context, key string, item redis.LegacyItem) error {
	noted, err := m.old.Noted(ctx, m.target, key)
	if err != nil {
		return err
	}
	if noted == item.Digest && !m.flags.overwrite {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.report.RemindersThere++
		return nil
	}
	body, err := json.Marshal(item.Reminder)
	if err != nil {
		return err
	}
	path := m.to.path("actor", item.Actor.Type, item.Actor.ID, "reminders", item.Reminder.ID)
	if err := m.send(ctx, http.MethodPut, path, body); err != nil {
		return err
	}
	return m.old.Note(ctx, m.target, key, item.Digest)
}

// send does one change, which may be repeated.
func (m *importer) send(ctx context.Context, method, path string, body []byte) error {
	a, err := m.to.do(ctx, method, path, http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return err
	}
	if err := a.failure(); err != nil {
		return err
	}
	if a.status >= 300 {
		return runtime.Errorf(runtime.CodeBadAnswer, "the gateway answers %d to %s %s", a.status, method, path)
	}
	return nil
}

// unchanged looks whether all that was taken over is still the same.
func (m *importer) unchanged(ctx context.Context, keys []string) error {
	seen := 0
	err := m.old.Keys(ctx, func(key string) error {
		before, have := m.digests[key]
		item, err := m.old.Item(ctx, key, m.known)
		switch {
		case err != nil:
			return err
		case have && item.Digest == before:
			seen++
		case have, item.Kind == redis.LegacyState, item.Kind == redis.LegacyReminderKey:
			return errChanged(key)
		}
		return nil
	})
	if err == nil && seen != len(keys) {
		err = runtime.Errorf(runtime.CodeInUse, "%d of %d keys have gone meanwhile: KAR 1.x still runs. End its components and import again with --overwrite", len(keys)-seen, len(keys))
	}
	return err
}

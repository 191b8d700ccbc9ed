package runtime

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestWhole plays each scenario and compares all of what the rules say: every
// field of every record and effect, and what they answer to each question
// afterwards. What a scenario shows is what it is about; the files in
// testdata/whole say that the rest has not changed by accident. When it was to
// change, -update writes them anew, and the difference is to be read.
func TestWhole(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "whole", filepath.Base(f))
			got := playWhole(t, string(text))
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is not what it was (-update writes it anew):\n%s", golden, firstDifference(string(want), got))
			}
		})
	}
}

func playWhole(t *testing.T, text string) string {
	w := newWorld(t)
	w.whole, w.effects = &strings.Builder{}, effectNames(t)
	known := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		command, ok := strings.CutPrefix(line, ">")
		if !ok {
			continue
		}
		fmt.Fprintf(w.whole, "> %s\n", strings.TrimSpace(command))
		w.command(strings.TrimSpace(command))
		w.tellKnown(known)
	}
	return w.withNames(w.whole.String())
}

// tellKnown writes what is answered otherwise than before.
func (w *world) tellKnown(known map[string]string) {
	for _, p := range w.parts {
		for _, l := range w.known(p) {
			what, value, _ := strings.Cut(l, ": ")
			if key := w.mark(p.n) + what; known[key] != value {
				known[key] = value
				fmt.Fprintf(w.whole, "? %s: %s\n", key, value)
			}
		}
	}
}

// known is what the partition answers to all questions.
func (w *world) known(p *worldPart) (lines []string) {
	c := p.core
	add := func(what string, v any) { lines = append(lines, what+": "+whole(reflect.ValueOf(v))) }
	for _, name := range sortedKeys(w.ids) {
		add("request "+name, c.query(&Query{Kind: QueryRequest, App: "dp", Request: w.ids[name]}))
	}
	actors := map[Actor]bool{}
	for a := range c.reminders {
		actors[a] = true
	}
	for a := range c.subs {
		actors[a] = true
	}
	for _, a := range sortedActors(actors) {
		add("reminders of "+actorText(a), c.query(&Query{Kind: QueryReminders, Actor: a}))
		add("subscriptions of "+actorText(a), c.query(&Query{Kind: QuerySubscriptions, Actor: a}))
	}
	missing := c.query(&Query{Kind: QueryMissing}).([]MissingComponent)
	slices.SortFunc(missing, func(a, b MissingComponent) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	add("missing", missing)
	active := func(boot string) []Actor {
		as := c.query(&Query{Kind: QueryActive, App: "dp", Boot: boot}).([]Actor)
		slices.SortFunc(as, compareActors)
		return as
	}
	add("active", active(""))
	for _, b := range sortedKeys(w.infos) {
		add("active on "+b, active(b))
		add("lost "+b, c.isLost(b))
	}
	add("groups", c.query(&Query{Kind: QueryGroups}))
	add("services", c.query(&Query{Kind: QueryServices}))
	add("gauges", c.query(&Query{Kind: QueryGauges}))
	add("generation", c.query(&Query{Kind: QueryGeneration, App: "dp"}))
	add("idle", c.query(&Query{Kind: QueryIdle}))
	add("due", c.Due(w.now))
	add("oldest live", c.OldestLive())
	add("held", c.Held())
	add("ahead", c.Ahead())
	add("attended", c.Attended())
	add("level, epoch", [2]uint64{uint64(c.LogLevel()), c.Epoch()})
	add("last change", c.LastChange())
	return lines
}

// whole writes a value with all its fields but those that are zero.
func whole(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Invalid:
		return "nil"
	case reflect.Interface:
		if v.IsNil() {
			return "nil"
		}
		return whole(v.Elem())
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return v.Elem().Type().Name() + whole(v.Elem())
	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				parts = append(parts, v.Type().Field(i).Name+":"+whole(f))
			}
		}
		return "{" + strings.Join(parts, " ") + "}"
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			s := text(v)
			if len(s) > 300 {
				h := fnv.New64a()
				_, _ = h.Write([]byte(s))
				s = fmt.Sprintf("%d bytes %x", v.Len(), h.Sum64())
			}
			return s
		}
		var parts []string
		for i := range v.Len() {
			parts = append(parts, whole(v.Index(i)))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.Map:
		var parts []string
		for it := v.MapRange(); it.Next(); {
			parts = append(parts, whole(it.Key())+"="+whole(it.Value()))
		}
		slices.Sort(parts)
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.String:
		return fmt.Sprintf("%q", v.String())
	}
	return fmt.Sprint(v)
}

// wholly notes what was decided in all its fields.
func (w *world) wholly(mark string, r *Record, e *Effect) {
	if w.whole == nil || w.quiet {
		return
	}
	if r != nil {
		s := whole(reflect.ValueOf(r.Body))
		if r.ViaN != 0 {
			s = fmt.Sprintf("via p%d.%d %s", r.ViaFrom, r.ViaN, s)
		}
		for _, o := range r.Out {
			s += fmt.Sprintf(" out p%d.%d %s", o.To, o.N, parcelText(o.Payload))
		}
		fmt.Fprintf(w.whole, "+ %s%d.%d %s\n", mark, r.Epoch, r.Seq, s)
		return
	}
	x := *e
	s := w.effects[x.Kind]
	if x.Kind == ToPartition {
		s, x.Payload = s+" "+parcelText(x.Payload), nil
	}
	x.Kind = 0
	fmt.Fprintf(w.whole, "= %s%s %s\n", mark, s, whole(reflect.ValueOf(x)))
}

// effectNames are the kinds of effects as effects.go has them.
func effectNames(t *testing.T) (names []string) {
	b, err := os.ReadFile("effects.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(b), "const (")
	list, _, _ = strings.Cut(list, "\n)")
	for l := range strings.Lines(list) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "//") {
			names = append(names, strings.Fields(l)[0])
		}
	}
	return names
}

func parcelText(b []byte) string {
	var m parcel
	if err := decode(b, &m); err != nil {
		return err.Error()
	}
	return whole(reflect.ValueOf(m))
}

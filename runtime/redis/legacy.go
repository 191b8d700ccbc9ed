package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/karmesh/kar/runtime"
)

// What KAR 1.x keeps in Redis for an application, all under kar_APP_:
//
//	main_state_TYPE_ID                   hash, the state of an actor. A plain key K is the field
//	                                     K__, subkey S of submap M the field M_S; values are JSON
//	main_bindings_reminders_TYPE_ID_RID  hash with path, targetTime (RFC 3339), period (Go
//	                                     duration or nanoseconds), encodedData (JSON). Also
//	                                     without bindings_, or with a bk-UUID before or behind
//
// beside subscriptions and placements, which nobody needs after a move. Names
// are not escaped, so one with a _ in it is of two minds; see LegacyNames.

// LegacyNames say what keys alone do not.
type LegacyNames struct {
	// Types and Submaps that have a _ in their name. Else the first _ ends it.
	Types, Submaps []string
	// StatePrefix and ReminderPrefix, behind kar_APP_; "" for the usual.
	StatePrefix, ReminderPrefix string
}

// A Legacy reads an application of KAR 1.x.
type Legacy struct {
	r      *Redis
	app    string
	prefix string
	names  LegacyNames
}

// OpenLegacy uses the connection settings only. It sends nothing yet.
func OpenLegacy(cfg Config, app string, names LegacyNames) (*Legacy, error) {
	cfg.Mesh, cfg.Partitions = "import-1x", 1
	r, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	byLength := func(a, b string) int { return len(b) - len(a) }
	names.Types, names.Submaps = slices.Clone(names.Types), slices.Clone(names.Submaps)
	slices.SortFunc(names.Types, byLength)
	slices.SortFunc(names.Submaps, byLength)
	return &Legacy{r: r, app: app, prefix: "kar_" + app + "_", names: names}, nil
}

// Close ends the connections.
func (l *Legacy) Close() error { return l.r.Close() }

// Check reaches the server.
func (l *Legacy) Check(ctx context.Context) error {
	ctx, cancel := l.r.bounded(ctx)
	defer cancel()
	err := l.r.fault("read what KAR 1.x left", l.r.client.Ping(ctx).Err())
	var e *runtime.Error
	if errors.As(err, &e) && e.Code == runtime.CodeRedisUnreachable {
		return l.r.probe(e)
	}
	return err
}

// Keys visits all keys of the application, in no order, each once.
func (l *Legacy) Keys(ctx context.Context, visit func(key string) error) error {
	pattern := globEscape(l.prefix) + "*"
	seen := map[string]bool{}
	scan := func(ctx context.Context, node goredis.Cmdable) error {
		for cursor := uint64(0); ; {
			bound, cancel := l.r.bounded(ctx)
			keys, next, err := node.Scan(bound, cursor, pattern, 1000).Result()
			cancel()
			if err != nil {
				return l.r.fault("list the keys of KAR 1.x", err)
			}
			for _, key := range keys {
				if seen[key] {
					continue
				}
				seen[key] = true
				if err := visit(key); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := l.r.client.(*goredis.ClusterClient); ok {
		var turn = make(chan struct{}, 1) // nodes are visited at once; visit is not made for that
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error {
			turn <- struct{}{}
			defer func() { <-turn }()
			return scan(ctx, node)
		})
	}
	return scan(ctx, l.r.client)
}

func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}

// A LegacyItem is one key of KAR 1.x.
type LegacyItem struct {
	Kind  LegacyKind
	Actor runtime.Actor
	// Fields of a state, sorted; Reminder and its period as KAR takes it.
	Fields   []runtime.Field
	Reminder LegacyReminder
	// Unsure: names could be split in another way as well.
	Unsure bool
	// Digest changes with the content.
	Digest string
}

// LegacyKind is what a key holds.
type LegacyKind int

// The kinds.
const (
	LegacyUnknown LegacyKind = iota
	LegacyState
	LegacyReminderKey
	LegacySubscription
	LegacyPlacement
	LegacyGone     // it was there when keys were listed
	LegacyOtherApp // whose name is this app's, a _ and more
)

// A LegacyReminder is a reminder in the words of the API.
type LegacyReminder struct {
	ID         string          `json:"-"`
	Path       string          `json:"path"`
	TargetTime string          `json:"targetTime"`
	Period     string          `json:"period,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
}

// Item reads what a key holds. known tells which actors there are, and so where
// in a reminder's key the actor's id ends; it may be nil.
func (l *Legacy) Item(ctx context.Context, key string, known func(runtime.Actor) bool) (LegacyItem, error) {
	rest := strings.TrimPrefix(key, l.prefix)
	state, isState := strings.CutPrefix(rest, orElse(l.names.StatePrefix, "main_state_"))
	reminder, isReminder := strings.CutPrefix(rest, orElse(l.names.ReminderPrefix, "main_bindings_reminders_"))
	if !isReminder && l.names.ReminderPrefix == "" {
		reminder, isReminder = strings.CutPrefix(rest, "main_reminders_")
	}
	switch {
	case isState, isReminder:
	case strings.Contains(rest, "_main_"):
		return LegacyItem{Kind: LegacyOtherApp}, nil
	case strings.Contains(rest, "subscriptions_"):
		return LegacyItem{Kind: LegacySubscription}, nil
	case strings.Contains(rest, "placement"):
		return LegacyItem{Kind: LegacyPlacement}, nil
	default:
		return LegacyItem{Kind: LegacyUnknown}, nil
	}
	ctx, cancel := l.r.bounded(ctx)
	defer cancel()
	fields, err := l.r.client.HGetAll(ctx, key).Result()
	switch {
	case err != nil && hasWord(err.Error(), "WRONGTYPE"):
		return LegacyItem{Kind: LegacyUnknown}, nil
	case err != nil:
		return LegacyItem{}, l.r.fault("read "+key, err)
	case len(fields) == 0:
		return LegacyItem{Kind: LegacyGone}, nil
	}
	item := LegacyItem{Digest: digest(fields)}
	if isState {
		item.Kind = LegacyState
		item.Actor, item.Unsure = l.actor(state)
		var unsure bool
		item.Fields, unsure = l.fields(fields)
		item.Unsure = item.Unsure || unsure
		if item.Actor.ID == "" {
			item.Kind = LegacyUnknown
		}
		return item, nil
	}
	item.Kind = LegacyReminderKey
	return l.reminder(item, reminder, fields, known)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func digest(fields map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(h, "%d %s%d %s", len(k), k, len(fields[k]), fields[k])
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12])
}

// actor splits TYPE_ID. It is sure when the type has no _ or was named.
func (l *Legacy) actor(s string) (a runtime.Actor, unsure bool) {
	for _, typ := range l.names.Types {
		if id, ok := strings.CutPrefix(s, typ+"_"); ok {
			return runtime.Actor{App: l.app, Type: typ, ID: id}, false
		}
	}
	typ, id, _ := strings.Cut(s, "_")
	if typ == "" {
		id = ""
	}
	return runtime.Actor{App: l.app, Type: typ, ID: id}, strings.Contains(id, "_")
}

func (l *Legacy) fields(all map[string]string) (fields []runtime.Field, unsure bool) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f, doubt := l.field(name)
		f.Value = []byte(all[name])
		fields = append(fields, f)
		unsure = unsure || doubt
	}
	return fields, unsure
}

func (l *Legacy) field(name string) (f runtime.Field, unsure bool) {
	for _, m := range l.names.Submaps {
		if sub, ok := strings.CutPrefix(name, m+"_"); ok && sub != "_" {
			return runtime.Field{Key: m, Sub: sub, InMap: true}, false
		}
	}
	if key, ok := strings.CutSuffix(name, "__"); ok {
		return runtime.Field{Key: key}, false
	}
	key, sub, ok := strings.Cut(name, "_")
	if !ok {
		return runtime.Field{Key: name}, true
	}
	return runtime.Field{Key: key, Sub: sub, InMap: true}, strings.Contains(sub, "_")
}

func (l *Legacy) reminder(item LegacyItem, s string, fields map[string]string, known func(runtime.Actor) bool) (LegacyItem, error) {
	a, _ := l.actor(withoutBinding(s))
	id, rid := splitReminder(a, known)
	item.Actor = runtime.Actor{App: a.App, Type: a.Type, ID: id}
	item.Unsure = strings.Count(a.ID, "_") > 1 && (known == nil || !known(item.Actor))
	due, err := time.Parse(time.RFC3339Nano, fields["targetTime"])
	if id == "" || rid == "" || fields["path"] == "" || err != nil {
		item.Kind = LegacyUnknown
		return item, nil
	}
	item.Reminder = LegacyReminder{ID: rid, Path: fields["path"], TargetTime: due.UTC().Format(time.RFC3339Nano)}
	if p := fields["period"]; p != "" && p != "0" && p != "0s" {
		d, err := time.ParseDuration(p)
		if err != nil {
			if d, err = time.ParseDuration(p + "ns"); err != nil {
				item.Kind = LegacyUnknown
				return item, nil
			}
		}
		item.Reminder.Period = d.String()
	}
	if data := bytes.TrimSpace([]byte(fields["encodedData"])); len(data) > 0 {
		if !json.Valid(data) {
			item.Kind = LegacyUnknown
			return item, nil
		}
		item.Reminder.Data = data
	}
	return item, nil
}

// withoutBinding drops the number that KAR 1.x gave to the binding.
func withoutBinding(s string) string {
	const length = len("bk-00000000-0000-0000-0000-000000000000")
	if strings.HasPrefix(s, "bk-") && len(s) > length && s[length] == '_' {
		return s[length+1:]
	}
	if at := len(s) - length - 1; at > 0 && strings.HasPrefix(s[at:], "_bk-") {
		return s[:at]
	}
	return s
}

// splitReminder splits ID_RID: at the longest id that is known to exist, else
// at the last _.
func splitReminder(a runtime.Actor, known func(runtime.Actor) bool) (id, rid string) {
	for at := strings.LastIndex(a.ID, "_"); at > 0; at = strings.LastIndex(a.ID[:at], "_") {
		if id == "" {
			id, rid = a.ID[:at], a.ID[at+1:]
		}
		if known != nil && known(runtime.Actor{App: a.App, Type: a.Type, ID: a.ID[:at]}) {
			return a.ID[:at], a.ID[at+1:]
		}
	}
	return id, rid
}

// Connections lists clients of the server that may be sidecars of KAR 1.x:
// they have no name, as those of KAR 1.x, and their last command is about data.
func (l *Legacy) Connections(ctx context.Context) ([]string, error) {
	ctx, cancel := l.r.bounded(ctx)
	defer cancel()
	var found []string
	look := func(ctx context.Context, node *goredis.Client) error {
		text, err := node.ClientList(ctx).Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			at := map[string]string{}
			for word := range strings.FieldsSeq(line) {
				k, v, _ := strings.Cut(word, "=")
				at[k] = v
			}
			if at["name"] == "" && legacyCommand(at["cmd"]) {
				found = append(found, at["addr"])
			}
		}
		return nil
	}
	err := l.r.eachNode(ctx, look)
	return found, l.r.fault("list the clients of Redis", err)
}

// legacyCommand: replicas, sentinels and people with redis-cli look different.
func legacyCommand(cmd string) bool {
	switch cmd {
	case "NULL", "auth", "hello", "select", "ping", "get", "set", "del", "keys", "eval", "evalsha",
		"hget", "hset", "hdel", "hexists", "hgetall", "hscan", "hmset", "hmget", "hkeys", "hlen", "exists", "scan":
		return true
	}
	return false
}

// A note in the old Redis, under a key of its own, says which reminders went
// where: one that has fired since must not come back.

func (l *Legacy) noteKey() string { return "kar:import-1x:" + keyName(l.app) }

// Noted is the digest that was noted for a key and a target, "" for none.
func (l *Legacy) Noted(ctx context.Context, target, key string) (string, error) {
	ctx, cancel := l.r.bounded(ctx)
	defer cancel()
	s, err := l.r.client.HGet(ctx, l.noteKey(), target+" "+key).Result()
	if errors.Is(err, goredis.Nil) {
		return "", nil
	}
	return s, l.r.fault("read the notes of an earlier import", err)
}

// Note says that a key with this digest has gone to a target.
func (l *Legacy) Note(ctx context.Context, target, key, digest string) error {
	ctx, cancel := l.r.bounded(ctx)
	defer cancel()
	return l.r.fault("note what was imported", l.r.client.HSet(ctx, l.noteKey(), target+" "+key, digest).Err())
}

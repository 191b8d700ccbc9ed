package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// oldRedis is a Redis that looks as KAR 1.x leaves it: no name, no sidecar.
func oldRedis(t *testing.T, password string) (*parts.Redis, *goredis.Client) {
	t.Helper()
	server := parts.NeedRedis(t, parts.RedisOptions{Password: password})
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr(), Password: password, ClientName: "a-test", Protocol: 2})
	t.Cleanup(func() { _ = client.Close() })
	return server, client
}

func hset(t *testing.T, c *goredis.Client, key string, pairs ...string) {
	t.Helper()
	if err := c.HSet(t.Context(), key, pairs).Err(); err != nil {
		t.Fatal(err)
	}
}

// cafes is an application with a bit of everything.
func cafes(t *testing.T, c *goredis.Client) (due time.Time) {
	t.Helper()
	hset(t, c, "kar_dp_main_state_Cafe_Cafe+de+Flore", "seats__", "12", "open__", " true ", "who_ann", `{"age":3}`, "who_bob", `"<b>"`, "odd__", "not JSON")
	hset(t, c, "kar_dp_main_state_Table_a/b?c", "cafe__", `"Flore"`)
	due = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	hset(t, c, "kar_dp_main_bindings_reminders_Cafe_Cafe+de+Flore_close", "path", "/close", "targetTime", due.Format(time.RFC3339), "period", "24h0m0s", "encodedData", `["now",1]`)
	hset(t, c, "kar_dp_main_bindings_reminders_Table_a/b?c_once", "path", "/clean", "targetTime", due.Format(time.RFC3339))
	hset(t, c, "kar_dp_main_bindings_subscriptions_Cafe_Cafe+de+Flore_news", "path", "/news", "topic", "news")
	if err := c.Set(t.Context(), "kar_dp_placement_Cafe_x", "node-1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	// Another application, and one whose name begins with ours.
	hset(t, c, "kar_other_main_state_Cafe_x", "a__", "1")
	hset(t, c, "kar_dp2_main_state_Cafe_x", "a__", "1")
	hset(t, c, "kar_dp_2_main_state_Cafe_x", "a__", "1")
	return due
}

func wantReport(t *testing.T, e ended, want importReport) {
	t.Helper()
	if e.code != 0 {
		t.Fatalf("code %d: %s%s", e.code, e.out, e.errout)
	}
	var got importReport
	if err := json.Unmarshal([]byte(e.out), &got); err != nil {
		t.Fatalf("%v in %s", err, e.out)
	}
	if want.Unknown == nil {
		want.Unknown = []string{}
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// TestImport moves an application into a real gateway, twice, and compares.
func TestImport(t *testing.T) {
	server, client := oldRedis(t, "secret")
	due := cafes(t, client)
	before := dump(t, client)
	u := newUser(t)
	args := []string{"import-1x", "--app", "dp", "-o", "json", "--redis-host", server.Host, "--redis-port", fmt.Sprint(server.Port), "--redis-password", "secret"}
	found := importReport{App: "dp", Actors: 2, Keys: 6, Reminders: 2, Subscriptions: 1, Placements: 1}

	dry := found
	dry.DryRun = true
	wantReport(t, u.kar(append(args, "--dry-run")...), dry)
	if e := u.kar("get", "--app", "dp", "-o", "json"); strings.Contains(e.out, "Cafe") {
		t.Fatalf("a dry run wrote: %s", e.out)
	}
	wantReport(t, u.kar(args...), found)
	check := func() {
		t.Helper()
		for path, want := range map[string]string{
			"actor/Cafe/Cafe+de+Flore/state":     `{"odd":"not JSON","open": true ,"seats":12,"who":{"ann":{"age":3},"bob":"<b>"}}`,
			"actor/Cafe/Cafe+de+Flore/state/odd": `not JSON`,
			"actor/Table/a%2Fb%3Fc/state":        `{"cafe":"Flore"}`,
			"actor/Cafe/x/state":                 `{}`,
		} {
			if got := u.api(t, "dp", path); got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
		want := fmt.Sprintf(`[{"Actor":{"Type":"Cafe","ID":"Cafe+de+Flore"},"id":"close","path":"/close","targetTime":%q,"period":86400000000000,"encodedData":"[\"now\",1]"}]`, due.Format(time.RFC3339))
		if got := strings.TrimSpace(u.api(t, "dp", "actor/Cafe/Cafe+de+Flore/reminders")); got != want {
			t.Errorf("reminders are %s\nwant %s", got, want)
		}
		if got := u.api(t, "dp", "actor/Table/a%2Fb%3Fc/reminders"); !strings.Contains(got, `"/clean"`) {
			t.Errorf("reminders are %s", got)
		}
	}
	check()
	again := found
	again.ActorsThere, again.RemindersThere = 2, 2
	wantReport(t, u.kar(args...), again)
	check()
	client.Del(t.Context(), "kar:import-1x:dp")
	if after := dump(t, client); !maps.Equal(before, after) {
		t.Errorf("the old data changed: %v\n%v", before, after)
	}

	// What was interrupted goes on; what differs is not overwritten.
	u.change(t, "dp", http.MethodDelete, "actor/Cafe/Cafe+de+Flore/state/seats", "")
	half := found
	half.ActorsThere = 1
	wantReport(t, u.kar(args...), half)
	check()
	u.change(t, "dp", http.MethodPut, "actor/Cafe/Cafe+de+Flore/state/seats", "13")
	e := u.kar(args...)
	if e.code != 1 || !strings.Contains(e.errout, "in_use") || !strings.Contains(e.errout, "Cafe+de+Flore") {
		t.Fatalf("code %d: %s", e.code, e.errout)
	}
	u.change(t, "dp", http.MethodPut, "actor/Cafe/x/state/new", "1")
	e = u.kar(append(args, "--overwrite")...)
	if e.code != 0 {
		t.Fatal(e.errout)
	}
	u.change(t, "dp", http.MethodDelete, "actor/Cafe/x/state", "")
	check()
}

// TestImportRefuses: what would take over something wrong is refused by name.
func TestImportRefuses(t *testing.T) {
	server, client := oldRedis(t, "")
	u := newUser(t)
	run := func(args ...string) ended {
		return u.kar(append([]string{"import-1x", "--app", "dp", "--redis-host", server.Host, "--redis-port", fmt.Sprint(server.Port)}, args...)...)
	}
	refused := func(what, says string, code int, args ...string) {
		t.Helper()
		e := run(args...)
		if e.code != code || !strings.Contains(e.errout, says) {
			t.Errorf("%s: code %d, want %d with %q: %s%s", what, e.code, code, says, e.out, e.errout)
		}
	}
	hset(t, client, "kar_dp_main_state_Bank_Account_7", "my_map_sub", "1", "n__", "2")
	refused("a name with _", "--types", 2)
	refused("a field with _", "--submaps", 2, "--types", "Bank_Account")
	if e := run("--types", "Bank_Account", "--submaps", "my_map", "--dry-run"); e.code != 0 || !strings.Contains(e.out, "1 actors with 2 keys") {
		t.Errorf("code %d: %s%s", e.code, e.out, e.errout)
	}
	if err := client.Set(t.Context(), "kar_dp_strange", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	refused("an unknown key", "kar_dp_strange", 2, "--guess")
	if e := run("--guess", "--ignore-unknown", "--dry-run"); e.code != 0 || !strings.Contains(e.out, "1 keys were left out") {
		t.Errorf("code %d: %s%s", e.code, e.out, e.errout)
	}
	// A sidecar has a connection without a name.
	sidecar := goredis.NewClient(&goredis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})
	defer sidecar.Close()
	if err := sidecar.HGet(t.Context(), "kar_dp_main_state_T_1", "x").Err(); !errors.Is(err, goredis.Nil) {
		t.Fatal(err)
	}
	refused("a sidecar", "may be sidecars", 1, "--guess", "--ignore-unknown")
	if e := run("--guess", "--ignore-unknown", "--stopped"); e.code != 0 {
		t.Errorf("code %d: %s%s", e.code, e.out, e.errout)
	}
	refused("no app", "app", 2, "--app", "")
	refused("no Redis", "redis_unreachable", 1, "--redis-port", "1")
	refused("output", "-o", 2, "-o", "yaml")
}

// TestImportMeanwhile: when the data changes under the import, it says so.
func TestImportMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*goredis.Client) error{
		"changed": func(c *goredis.Client) error {
			return c.HSet(t.Context(), "kar_dp_main_state_Cafe_a", "n__", "2").Err()
		},
		"new": func(c *goredis.Client) error {
			return c.HSet(t.Context(), "kar_dp_main_state_Cafe_z", "n__", "2").Err()
		},
		"gone": func(c *goredis.Client) error { return c.Del(t.Context(), "kar_dp_main_state_Cafe_a").Err() },
		"reminder gone": func(c *goredis.Client) error {
			return c.Del(t.Context(), "kar_dp_main_bindings_reminders_Cafe_a_r").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := oldRedis(t, "")
			hset(t, client, "kar_dp_main_state_Cafe_a", "n__", "1")
			hset(t, client, "kar_dp_main_bindings_reminders_Cafe_a_r", "path", "/x", "targetTime", "2030-01-02T03:04:05+01:00", "period", "1000000000")
			// The data changes once everything has been taken over.
			var mu sync.Mutex // requests may come over several connections
			left := 2
			var reminder string
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.Method == http.MethodGet:
					_, _ = io.WriteString(w, "{}")
					return
				case r.Method == http.MethodPut:
					b, _ := io.ReadAll(r.Body)
					reminder = string(b)
				}
				if left--; left == 0 {
					if err := change(client); err != nil {
						t.Error(err)
					}
				}
			}))
			defer gateway.Close()
			u := newUser(t)
			e := u.kar("import-1x", "--app", "dp", "--gateway", gateway.URL, "--redis-host", server.Host, "--redis-port", fmt.Sprint(server.Port))
			if e.code != 1 || !strings.Contains(e.errout, "meanwhile") {
				t.Errorf("code %d: %s%s", e.code, e.out, e.errout)
			}
			mu.Lock()
			defer mu.Unlock()
			if want := `{"path":"/x","targetTime":"2030-01-02T02:04:05Z","period":"1s"}`; reminder != want {
				t.Errorf("the reminder is %s, want %s", reminder, want)
			}
		})
	}
}

func TestCompareState(t *testing.T) {
	fields := []runtime.Field{
		{Key: "a", Value: []byte("1")}, {Key: "t", Value: []byte("x")},
		{Key: "m", Sub: "x", InMap: true, Value: []byte(`{"y": 1}`)}, {Key: "m", Sub: "z", InMap: true, Value: []byte("2")},
	}
	for have, want := range map[string]string{
		`{}`:                                "part",
		`{"a":1}`:                           "part",
		`{"a":1,"t":"x","m":{"x":{"y":1}}}`: "part",
		`{"a":1,"t":"x","m":{"x":{"y":1},"z":2}}`: "all",
		`{"a":2}`:               "other",
		`{"b":1}`:               "other",
		`{"m":{"x":2}}`:         "other",
		`{"m":{"new":2}}`:       "other",
		`{"a":1,"t":"x","m":5}`: "other",
	} {
		var state map[string]json.RawMessage
		if err := json.Unmarshal([]byte(have), &state); err != nil {
			t.Fatal(err)
		}
		got := "other"
		if whole, fits := compareState(fields, state); whole && fits {
			got = "all"
		} else if fits {
			got = "part"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", have, got, want)
		}
	}
}

// ask sends a request to the user's gateway and returns the body.
func (u *user) ask(t *testing.T, method, app, path, body string) string {
	t.Helper()
	place, err := background.Locate(func(key string) string {
		for _, v := range slices.Backward(u.env) {
			if name, value, _ := strings.Cut(v, "="); name == key {
				return value
			}
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://gateway/apps/"+app+"/kar/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := background.Client(place.Socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, b, err)
	}
	return string(b)
}

func (u *user) api(t *testing.T, app, path string) string {
	t.Helper()
	return u.ask(t, http.MethodGet, app, path, "")
}

func (u *user) change(t *testing.T, app, method, path, body string) {
	t.Helper()
	u.ask(t, method, app, path, body)
}

// dump is all hashes of a server.
func dump(t *testing.T, c *goredis.Client) map[string]string {
	t.Helper()
	keys, err := c.Keys(t.Context(), "kar_*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range keys {
		fields, _ := c.HGetAll(t.Context(), key).Result()
		var b bytes.Buffer
		for _, f := range slices.Sorted(maps.Keys(fields)) {
			fmt.Fprintf(&b, "%s=%s;", f, fields[f])
		}
		all[key] = b.String()
	}
	return all
}

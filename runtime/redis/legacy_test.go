package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestLegacyItems: what each key of KAR 1.x is taken for.
func TestLegacyItems(t *testing.T) {
	server := parts.NeedRedis(t, parts.RedisOptions{})
	l, err := OpenLegacy(Config{Host: server.Host, Port: server.Port}, "a*", LegacyNames{Types: []string{"T_U", "T"}, Submaps: []string{"m_n"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	reminder := []string{"path", "/p", "targetTime", "2030-01-02T03:04:05.5Z"}
	bk := "bk-01234567-89ab-cdef-0123-456789abcdef"
	for key, c := range map[string]struct {
		fields []string
		want   string
	}{
		"main_state_T_1":                    {[]string{"a__", "1", "b_c", "2", "u_v__", "3", "m_n_x", "4", "m_n__", "5", "s__t", "6"}, "1 T/1 [a=1 b/c=2 m_n/x=4 m_n=5 s/_t=6 u_v=3] true"},
		"main_state_T_U_1":                  {[]string{"a__", "1"}, "1 T_U/1 [a=1] false"},
		"main_state_T_x_y":                  {[]string{"a__", "1"}, "1 T/x_y [a=1] false"},
		"main_state_V_x":                    {[]string{"a__", "1"}, "1 V/x [a=1] false"},
		"main_state_V_x_y":                  {[]string{"a__", "1"}, "1 V/x_y [a=1] true"},
		"main_state_V":                      {[]string{"a__", "1"}, "0 V/ [a=1] false"},
		"main_state_":                       {[]string{"a__", "1"}, "0 / [a=1] false"},
		"other_thing":                       {[]string{"a__", "1"}, "0 / [] false"},
		"b_main_state_T_1":                  {[]string{"a__", "1"}, "6 / [] false"},
		"main_placement_T_1":                {[]string{"a__", "1"}, "4 / [] false"},
		"main_bindings_subscriptions_T_1_s": {reminder, "3 / [] false"},

		"main_bindings_reminders_T_1_r":            {reminder, "2 T/1 [] false r /p 2030-01-02T03:04:05.5Z  "},
		"main_reminders_T_1_r":                     {append(reminder, "period", "1h0m0s", "encodedData", ` {"a":[1]} `), `2 T/1 [] false r /p 2030-01-02T03:04:05.5Z 1h0m0s {"a":[1]}`},
		"main_bindings_reminders_T_x_y_r_s":        {append(reminder, "period", "250000000"), "2 T/x_y [] false r_s /p 2030-01-02T03:04:05.5Z 250ms "},
		"main_bindings_reminders_T_9_r_s":          {reminder, "2 T/9_r [] true s /p 2030-01-02T03:04:05.5Z  "},
		"main_bindings_reminders_T_1_r_" + bk:      {reminder, "2 T/1 [] false r /p 2030-01-02T03:04:05.5Z  "},
		"main_bindings_reminders_" + bk + "_T_1_r": {reminder, "2 T/1 [] false r /p 2030-01-02T03:04:05.5Z  "},
		"main_bindings_reminders_T_1":              {reminder, "0 T/ [] false"},
		"main_bindings_reminders_T_1_nopath":       {reminder[2:], "0 T/1 [] false"},
		"main_bindings_reminders_T_1_time":         {[]string{"path", "/p", "targetTime", "soon"}, "0 T/1 [] false"},
		"main_bindings_reminders_T_1_period":       {append(reminder, "period", "often"), "0 T/1 [] false"},
		"main_bindings_reminders_T_1_data":         {append(reminder, "encodedData", "{"), "0 T/1 [] false"},
	} {
		full := "kar_a*_" + key
		if err := l.r.client.HSet(t.Context(), full, c.fields).Err(); err != nil {
			t.Fatal(err)
		}
		item, err := l.Item(t.Context(), full, func(a runtime.Actor) bool { return slices.Contains([]string{"1", "x_y"}, a.ID) })
		if err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, f := range item.Fields {
			name := f.Key
			if f.InMap {
				name += "/" + f.Sub
			}
			fields = append(fields, name+"="+string(f.Value))
		}
		slices.Sort(fields)
		got := fmt.Sprintf("%d %s/%s %v %v", item.Kind, item.Actor.Type, item.Actor.ID, fields, item.Unsure)
		if item.Kind == LegacyReminderKey {
			r := item.Reminder
			got += fmt.Sprintf(" %s %s %s %s %s", r.ID, r.Path, r.TargetTime, r.Period, r.Data)
		}
		if got != c.want {
			t.Errorf("%s is %q\nwant %q", key, got, c.want)
		}
	}
	// A * in the app's name is no pattern, and what is gone or no hash is no error.
	if err := l.r.client.Set(t.Context(), "kar_ab_main_state_T_1", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.r.client.Set(t.Context(), "kar_a*_main_state_T_text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := l.Keys(t.Context(), func(key string) error {
		n++
		if !strings.HasPrefix(key, "kar_a*_") {
			t.Errorf("%s is not a key of the app", key)
		}
		return nil
	}); err != nil || n != 23 {
		t.Errorf("%d keys, %v", n, err)
	}
	for key, want := range map[string]LegacyKind{"kar_a*_main_state_T_text": LegacyUnknown, "kar_a*_main_state_T_gone": LegacyGone} {
		if item, err := l.Item(t.Context(), key, nil); err != nil || item.Kind != want {
			t.Errorf("%s is %d, %v", key, item.Kind, err)
		}
	}
}

// TestLegacyOnCluster: keys are found on all nodes.
func TestLegacyOnCluster(t *testing.T) {
	cluster := parts.NeedRedisCluster(t, parts.RedisOptions{})
	l, err := OpenLegacy(Config{Cluster: cluster.Addrs()}, "a", LegacyNames{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 300 {
		if err := l.r.client.HSet(t.Context(), fmt.Sprintf("kar_a_main_state_T_%d", i), "a__", i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := l.Keys(t.Context(), func(string) error { n++; return nil }); err != nil || n != 300 {
		t.Errorf("%d keys, %v", n, err)
	}
	if clients, err := l.Connections(t.Context()); err != nil || len(clients) != 0 {
		t.Errorf("clients %v, %v", clients, err)
	}
}

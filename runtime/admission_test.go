package runtime

import (
	"strings"
	"testing"
	"time"
)

func TestAdmit(t *testing.T) {
	const second = time.Second
	me := func(joined bool) *Member { return &Member{Node: "m", Lease: 6000, Joined: joined} }
	other := func(node string, lease int64, joined bool, apart time.Duration) []Neighbour {
		return []Neighbour{{Member: Member{Node: node, Lease: lease, Joined: joined, Address: "http://x"}, Apart: apart}}
	}
	for name, c := range map[string]struct {
		me     *Member
		others []Neighbour
		want   Admission
		code   Code
	}{
		"alone":                                     {me(false), nil, Admitted, ""},
		"with its like":                             {me(false), other("a", 6000, true, 0), Admitted, ""},
		"with one that does not say":                {me(false), other("a", 0, true, 0), Admitted, ""},
		"another lease":                             {me(false), other("x", 60000, true, 0), Refused, CodeBadConfig},
		"another lease, and it was here first":      {me(true), other("a", 60000, false, 0), Admitted, CodeBadConfig},
		"another lease, and both own":               {me(true), other("a", 60000, true, 0), Admitted, CodeBadConfig},
		"another lease, both come, the other goes":  {me(false), other("x", 60000, false, 0), Admitted, ""},
		"another lease, both come, this one waits":  {me(false), other("a", 60000, false, 0), Held, ""},
		"perhaps another store":                     {me(false), other("x", 6000, true, second), Held, ""},
		"another store":                             {me(false), other("x", 6000, true, 5*second), Refused, CodeForeign},
		"another store, and it was here first":      {me(true), other("a", 6000, false, 5*second), Admitted, CodeForeign},
		"perhaps another store, both own":           {me(true), other("a", 6000, true, second), Admitted, ""},
		"another store, both come":                  {me(false), other("x", 6000, false, 5*second), Admitted, ""},
		"another lease of gateways":                 {&Member{Node: "m", Lease: 6000, GatewayLease: 2000}, []Neighbour{{Member: Member{Node: "a", Lease: 6000, GatewayLease: 3000, Joined: true}}}, Refused, CodeBadConfig},
		"one does not say its lease of gateways":    {&Member{Node: "m", Lease: 6000, GatewayLease: 2000}, other("a", 6000, true, 0), Admitted, ""},
		"another log":                               {&Member{Node: "m", Log: "x"}, []Neighbour{{Member: Member{Node: "a", Log: "y", Joined: true}}}, Refused, CodeForeign},
		"another log, and it was here first":        {&Member{Node: "m", Log: "x", Joined: true}, []Neighbour{{Member: Member{Node: "a", Log: "y"}}}, Admitted, CodeForeign},
		"another log, both come, this one waits":    {&Member{Node: "m", Log: "x"}, []Neighbour{{Member: Member{Node: "a", Log: "y"}}}, Held, ""},
		"one does not say its log":                  {&Member{Node: "m", Log: "x"}, []Neighbour{{Member: Member{Node: "a", Joined: true}}}, Admitted, ""},
		"one is ahead for a moment":                 {me(false), []Neighbour{{Member: Member{Node: "a", Joined: true}, Ahead: second}}, Admitted, ""},
		"one is ahead for long":                     {me(false), []Neighbour{{Member: Member{Node: "a", Joined: true}, Ahead: 5 * second}}, Refused, CodeForeign},
		"one is ahead, and this one owns something": {me(true), []Neighbour{{Member: Member{Node: "a", Joined: true}, Ahead: 5 * second}}, Admitted, ""},
		"one that waits and one that is certain":    {me(false), append(other("a", 3000, false, 0), other("b", 3000, true, 0)...), Refused, CodeBadConfig},
	} {
		got, with, why := Admit(c.me, c.others, 2*second)
		if got != c.want || (why == nil) != (c.code == "") || why != nil && why.Code != c.code {
			t.Errorf("%s: %d %v", name, got, why)
		}
		if (with == "") != (got == Admitted && why == nil) {
			t.Errorf("%s: because of %q", name, with)
		}
	}
	_, _, why := Admit(me(false), other("x", 60000, true, 0), 2*second)
	for _, word := range []string{"6s", "1m0s", "http://x", "KAR_LEASE"} {
		if !strings.Contains(why.Detail, word) {
			t.Errorf("it does not name %s: %s", word, why.Detail)
		}
	}
}

package runtime

import "testing"

func TestNextClaimStep(t *testing.T) {
	at := func(change func(*ClaimView)) ClaimView {
		v := ClaimView{Me: "a", Claimer: "d", Found: 5, Lease: 10}
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		v    ClaimView
		want ClaimStep
	}{
		"nobody ever claimed it":                   {at(func(v *ClaimView) { v.Claimer, v.Found = "", 0 }), ClaimNow},
		"of a term before the last one":            {at(func(v *ClaimView) { v.Known, v.Waited = 6, 9 }), ClaimLater},
		"the same, for long":                       {at(func(v *ClaimView) { v.Known, v.Waited, v.Gone = 6, 10, true }), ClaimLost},
		"nobody, and somebody has had it":          {at(func(v *ClaimView) { v.Claimer, v.Found, v.Known, v.Waited = "", 0, 1, 10 }), ClaimLost},
		"its own":                                  {at(func(v *ClaimView) { v.Claimer = "a" }), ClaimNow},
		"of a stranger":                            {at(func(*ClaimView) {}), ClaimLater},
		"of a stranger who does not answer":        {at(func(v *ClaimView) { v.Waited = 10 }), ClaimNow},
		"of a stranger who is gone":                {at(func(v *ClaimView) { v.Gone = true }), ClaimNow},
		"of who is listed and cannot be asked":     {at(func(v *ClaimView) { v.Alive, v.Waited = true, 1000 }), ClaimNever},
		"of who has said that it owns it no more":  {at(func(v *ClaimView) { v.Alive, v.Told, v.Known = true, true, 5 }), ClaimNow},
		"of who has said nothing of it yet":        {at(func(v *ClaimView) { v.Alive, v.Told, v.Known = true, true, 4 }), ClaimLater},
		"of a known one who has stopped":           {at(func(v *ClaimView) { v.Known = 5 }), ClaimNow},
		"of nobody knows whom, in an old log":      {at(func(v *ClaimView) { v.Claimer = "" }), ClaimNow},
		"of who has taken it from this one":        {at(func(v *ClaimView) { v.Known, v.Losses, v.Waited = 4, 1, 39 }), ClaimLater},
		"taken from this one for long":             {at(func(v *ClaimView) { v.Known, v.Losses, v.Waited = 4, 1, 40 }), ClaimNow},
		"of who has taken it again":                {at(func(v *ClaimView) { v.Known, v.Losses, v.Waited = 4, 2, 40 }), ClaimLater},
		"of who has taken it, and is gone":         {at(func(v *ClaimView) { v.Known, v.Losses, v.Gone = 4, 2, true }), ClaimNow},
		"of who has taken it, and is listed again": {at(func(v *ClaimView) { v.Known, v.Losses, v.Alive = 4, 1, true }), ClaimNever},
	} {
		if got := NextClaimStep(&c.v); got != c.want {
			t.Errorf("%s: %d, not %d", name, got, c.want)
		}
	}
	for n := range 20 {
		if a, b := ClaimPatience(n, 10), ClaimPatience(n+1, 10); b < a || b > 10*256 || n < 4 && b != 4*a {
			t.Errorf("after %d and %d losses: %d and %d", n, n+1, a, b)
		}
	}
}

// TestLastClaimIsRemembered by who folds the log whole, or from a header on.
func TestLastClaimIsRemembered(t *testing.T) {
	cfg := Config{Mesh: "m", Partitions: 1, Node: "n/1", Address: "http://n:1"}
	owner := New(cfg)
	log := [][]byte{owner.Claim(Now{Wall: 1, Mono: 1})}
	if _, err := owner.Fold(log[0]); err != nil || !owner.Own(Now{Wall: 1, Mono: 1}, 0) {
		t.Fatal(err)
	}
	owner.Step(Now{Wall: 2, Mono: 2}, &Mark{})
	records, _ := owner.Take()
	log = append(log, records...)
	for from := range log {
		c := New(Config{Mesh: "m", Partitions: 1, Node: "other"})
		for _, b := range log[from:] {
			if _, err := c.Fold(b); err != nil {
				t.Fatal(err)
			}
		}
		if node, address := c.LastClaim(); node != "n/1" || address != "http://n:1" {
			t.Errorf("from record %d: %q at %q", from, node, address)
		}
	}
}

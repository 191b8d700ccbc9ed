package background

import (
	"strconv"
	"strings"
)

// plain tells a build from a source tree from a released version (v1.2.3).
func plain(v string) bool {
	_, _, ok := parse(v)
	return !ok || strings.HasPrefix(v, "v0.0.0-") || strings.HasSuffix(v, "+dirty")
}

// Newer compares two released versions by the rules of semver (build parts are
// ignored, a pre-release is older than its release). A plain build is neither
// newer nor older than anything.
func Newer(a, b string) bool {
	na, pa, ok := parse(a)
	if !ok {
		return false
	}
	nb, pb, ok := parse(b)
	if !ok {
		return false
	}
	for i := range na {
		if na[i] != nb[i] {
			return na[i] > nb[i]
		}
	}
	switch {
	case pa == pb:
		return false
	case pa == "" || pb == "":
		return pa == ""
	}
	return newerPre(strings.Split(pa, "."), strings.Split(pb, "."))
}

// newerPre compares the parts of two pre-releases: numbers as numbers, and
// numbers below words.
func newerPre(a, b []string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		x, errA := strconv.Atoi(a[i])
		y, errB := strconv.Atoi(b[i])
		switch {
		case errA == nil && errB == nil:
			return x > y
		case (errA == nil) != (errB == nil):
			return errA != nil
		}
		return a[i] > b[i]
	}
	return len(a) > len(b)
}

func parse(v string) (numbers [3]int, pre string, ok bool) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	v, pre, _ = strings.Cut(v, "-")
	parts := strings.Split(v, ".")
	if len(parts) != 3 {
		return numbers, "", false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return numbers, "", false
		}
		numbers[i] = n
	}
	return numbers, pre, true
}

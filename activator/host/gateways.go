package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

const (
	// How long a dial may take before the next address is tried; doubled, and
	// once more, when all have failed.
	dialLimit = time.Second
	// Addresses that gateways tell are not followed without end.
	maxTold        = 256
	maxToldAddress = 1024
)

// SplitGateways reads a list of gateway addresses, separated by commas: one
// unix:///path, or any number of http://host:port and https://host:port.
func SplitGateways(list string) ([]string, error) {
	var out []string
	for _, a := range strings.Split(list, ",") {
		a = strings.TrimSuffix(strings.TrimSpace(a), "/")
		if a == "" {
			continue
		}
		if !strings.HasPrefix(a, "unix:///") && !isHTTP(a) {
			return nil, runtime.Errorf(runtime.CodeBadConfig, "the gateway address %q is neither unix:///path nor http://host:port", a)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "the gateway address %q is neither unix:///path nor http://host:port", list)
	}
	if len(out) > 1 && slices.ContainsFunc(out, func(a string) bool { return strings.HasPrefix(a, "unix://") }) {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "the gateway addresses %q mix unix:///path with others", list)
	}
	return out, nil
}

func isHTTP(a string) bool {
	return strings.HasPrefix(a, "http://") || strings.HasPrefix(a, "https://")
}

// gateways are the addresses at which this host may attach: those of its
// configuration, and those that a gateway has told, which may be of no use from
// here (behind NAT or a proxy). The host's mutex guards it.
type gateways struct {
	configured []string
	told       []string
	last       string          // the address of the last stream
	tried      map[string]bool // since the last stream, or the last time that all failed
	fails      map[string]int  // in a row
	hung       int             // dials of told addresses in a row that came to no end
	rounds     int             // in which all failed
}

func newGateways(configured []string) gateways {
	return gateways{configured: configured, tried: map[string]bool{}, fails: map[string]int{}}
}

// tell replaces the told addresses.
func (g *gateways) tell(list []string) {
	// A socket is of this machine alone. A secret must not leave in the clear
	// because somebody said so.
	plain := !slices.ContainsFunc(g.configured, func(a string) bool { return !strings.HasPrefix(a, "http://") })
	g.told = nil
	for _, a := range list {
		a = strings.TrimSuffix(a, "/")
		if len(g.told) == maxTold || len(a) > maxToldAddress || strings.HasPrefix(g.configured[0], "unix://") {
			return
		}
		if (strings.HasPrefix(a, "https://") || plain && isHTTP(a)) && !slices.Contains(g.configured, a) && !slices.Contains(g.told, a) {
			g.told = append(g.told, a)
		}
	}
}

// all are the known addresses.
func (g *gateways) all() []string { return slices.Concat(g.configured, g.told) }

// next is the address to dial: never one that was tried since the last stream
// while another is left, and the one whose stream broke after the others.
func (g *gateways) next() string {
	best, rank := "", 0
	n := 0 // of that rank
	for i, a := range g.all() {
		if g.tried[a] {
			continue
		}
		r := g.rank(a, i >= len(g.configured))
		switch {
		case best == "" || r < rank:
			best, rank, n = a, r, 1
		case r == rank:
			if n++; rand.IntN(n) == 0 { // each is as likely: the hosts of a gateway spread
				best = a
			}
		}
	}
	return best
}

func (g *gateways) rank(a string, told bool) int {
	switch {
	case a == g.last:
		return 2
	case !told:
		return 0
	case g.fails[a] >= 3 || g.hung >= 2:
		return 3
	}
	return 1
}

// limit is how long the dial of one of several addresses may take.
func (g *gateways) limit() time.Duration {
	if len(g.configured)+len(g.told) == 1 {
		return handshake
	}
	return dialLimit << min(g.rounds, 2)
}

// stood notes that the stream to a worked until now.
func (g *gateways) stood(a string) {
	if !slices.Contains(g.configured, a) {
		g.hung = 0
	}
	delete(g.fails, a)
	clear(g.tried)
	g.last, g.rounds = a, 0
}

// failed notes that a cannot be reached; it tells whether there is another to try at once.
func (g *gateways) failed(a string, err error) bool {
	g.tried[a] = true
	g.fails[a]++
	var ne net.Error
	if !slices.Contains(g.configured, a) && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()) {
		g.hung++
	}
	if g.next() != "" {
		return true
	}
	clear(g.tried)
	g.rounds++
	for a := range g.fails {
		if !slices.Contains(g.configured, a) && !slices.Contains(g.told, a) {
			delete(g.fails, a)
		}
	}
	return false
}

package runtimetest

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// trace notes what happened; the hash of all of it is the same for the same seed.
func (s *sim) trace(format string, args ...any) {
	if !s.opt.Trace {
		return
	}
	line := fmt.Sprintf("%7d ", s.now) + fmt.Sprintf(format, args...)
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", s.report.Trace, line)
	s.report.Trace = h.Sum64()
	s.report.Tail = append(s.report.Tail, line)
	if len(s.report.Tail) > 100_000 && !s.opt.Records {
		s.report.Tail = append([]string(nil), s.report.Tail[50_000:]...)
	}
}

// About are the last lines of the trace that name one of the words.
func (r *SimReport) About(n int, words ...string) string {
	var out []string
	for _, l := range r.Tail {
		for _, w := range words {
			if w != "" && strings.Contains(l, w) {
				out = append(out, l)
				break
			}
		}
	}
	if len(out) > n {
		out = out[len(out)-n:]
	}
	return strings.Join(out, "\n")
}

// traceInput and traceRecords write down what an owner was told and decided.
func (o *simOwner) traceInput(in runtime.Input) {
	switch in.(type) {
	case *runtime.Tick, *runtime.Query, *runtime.HostsBeat, *runtime.StoreApplied:
		return
	}
	if o.n.s.opt.Records {
		o.n.s.trace("p%d node %d IN %s", o.log.n, o.n.n, withIDs(fmt.Sprintf("%T %+v", in, in)))
	}
}

func (o *simOwner) traceRecords(records [][]byte) {
	if !o.n.s.opt.Records {
		return
	}
	for _, b := range records {
		if r, err := runtime.DecodeRecord(b); err == nil {
			o.n.s.trace("p%d e%d REC %d %s", o.log.n, r.Epoch, r.Seq, withIDs(fmt.Sprintf("%T %+v", r.Body, r.Body)))
		}
	}
}

var (
	idAsBytes = regexp.MustCompile(`\[[0-9 ]+\]`)
	bodies    = regexp.MustCompile(` Body:\[[0-9 ]*\]|0x[0-9a-f]+`) // and pointers
)

// withIDs writes ids as people see them.
func withIDs(text string) string {
	text = bodies.ReplaceAllString(text, "")
	return idAsBytes.ReplaceAllStringFunc(text, func(x string) string {
		var id runtime.ID
		f := strings.Fields(strings.Trim(x, "[]"))
		if len(f) != len(id) {
			return x
		}
		for i := range f {
			n, err := strconv.ParseUint(f[i], 10, 8)
			if err != nil {
				return x
			}
			id[i] = byte(n)
		}
		return id.String()
	})
}

// Command mutants plants small bugs in the rules and in the engine, one at a
// time, and tells which of them the quick tests do not see. The tree is never
// changed: each bug goes to the compiler as an overlay.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	rules := flag.Int("rules", 150, "how many bugs to plant in runtime/, beside the named ones")
	engine := flag.Int("engine", 30, "how many to plant in runtime/engine")
	hand := flag.Bool("named", true, "plant the bugs that are written by hand")
	seed := flag.String("seed", "1", "another seed plants other bugs")
	procs := flag.Int("p", 2, "how many to test at once")
	limit := flag.Duration("for", 24*time.Hour, "plant no further bug after this long")
	only := flag.String("run", "", "only bugs whose name, file:line or text this expression matches; -rules and -engine do not count then")
	sim := flag.Bool("sim", false, "ask the simulator alone, which tells what it sees of the rules")
	list := flag.Bool("list", false, "print the bugs and plant none")
	flag.Parse()
	if err := run(*hand, *rules, *engine, *seed, *procs, *limit, *only, *sim, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(hand bool, rules, engine int, seed string, procs int, limit time.Duration, only string, sim, list bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	var bugs []mutant
	if hand {
		if bugs, err = named(root); err != nil {
			return err
		}
	}
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	for _, room := range []struct {
		folder string
		n      int
	}{{"runtime", rules}, {"runtime/engine", engine}} {
		found, err := mutantsOf(root, room.folder)
		if err != nil {
			return err
		}
		if only == "" {
			found = choose(found, seed, room.n)
		}
		bugs = append(bugs, found...)
	}
	var chosen []mutant
	for _, m := range bugs {
		if match.MatchString(m.String()) {
			chosen = append(chosen, m)
		}
	}
	if list {
		for _, m := range chosen {
			fmt.Println(m)
		}
		return nil
	}
	t := &tester{root: root, stages: stagesFor(sim)}
	if err := t.start(slices.ContainsFunc(chosen, func(m mutant) bool { return m.room() == "runtime/engine" })); err != nil {
		return err
	}
	defer t.end()
	return judge(t, chosen, procs, time.Now().Add(limit), sim)
}

// judge tests all bugs and prints what became of each.
func judge(t *tester, bugs []mutant, procs int, end time.Time, sim bool) error {
	work := make(chan mutant)
	var mu sync.Mutex
	var wg sync.WaitGroup
	count := map[string]map[verdict]int{}
	var survivors []mutant
	for range procs {
		wg.Go(func() {
			for m := range work {
				v, how, err := t.test(m)
				mu.Lock()
				if err != nil {
					v, how = broken, err.Error()
				}
				if v == void && m.name != "" {
					v, how = broken, "it does not compile"
				}
				if v == survived || v == broken {
					survivors = append(survivors, m)
				}
				if count[m.room()] == nil {
					count[m.room()] = map[verdict]int{}
				}
				count[m.room()][v]++
				fmt.Printf("%-8s %s  (%s)\n", v, m, how)
				mu.Unlock()
			}
		})
	}
	for _, m := range bugs {
		if time.Now().After(end) {
			break
		}
		work <- m
	}
	close(work)
	wg.Wait()
	failed := 0
	for _, m := range survivors {
		fmt.Printf("\n%s\n%s", m, m.diff())
		if m.name != "" {
			failed++
		}
	}
	fmt.Println()
	for _, room := range []string{"named", "runtime", "runtime/engine"} {
		c := count[room]
		if judged := c[killed] + c[survived]; judged > 0 {
			fmt.Printf("%s: %d of %d killed (%.1f %%); %d did not compile, %d broken\n",
				room, c[killed], judged, 100*float64(c[killed])/float64(judged), c[void], c[broken])
		}
	}
	if failed > 0 && !sim {
		return fmt.Errorf("%d named bugs were not killed", failed)
	}
	return nil
}

func (m mutant) String() string {
	what := m.name
	if what == "" {
		what = m.op
	}
	return fmt.Sprintf("%s:%d %s: %s", m.file, m.line, what, m.summary())
}

// summary is the change on one line.
func (m mutant) summary() string {
	short := func(s string) string {
		s = strings.Join(strings.Fields(s), " ")
		if len(s) > 90 {
			s = s[:87] + "..."
		}
		return s
	}
	return short(string(m.src[m.from:m.to])) + " → " + short(m.text)
}

func (m mutant) room() string {
	switch {
	case m.name != "":
		return "named"
	case strings.HasPrefix(m.file, "runtime/engine/"):
		return "runtime/engine"
	}
	return "runtime"
}

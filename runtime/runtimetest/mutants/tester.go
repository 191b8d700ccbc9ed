package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "SURVIVED"
	void     verdict = "void"   // it does not compile
	broken   verdict = "broken" // it could not be tested
)

// A stage is one package of tests. The first that fails has seen the bug.
type stage struct {
	args []string
	env  []string
	// realTime: a failure counts only when it comes twice.
	realTime bool
}

func stagesFor(sim bool) []stage {
	simulator := stage{
		args: []string{"-timeout=300s", "-run", "^TestSim$", "./runtime/runtimetest"},
		env:  []string{"KAR_SIM_RUNS=40"},
	}
	if sim {
		return []stage{simulator}
	}
	return []stage{
		// Those that see most come first, the slow ones last; TestMany… measure time.
		{args: []string{"-timeout=120s", "-run", "^(TestScenarios|TestScenariosWithoutMemory|TestWhole|TestCodes|TestFilled.*)$", "./runtime"}},
		{args: []string{"-timeout=120s", "-skip", "^(TestScenarios|TestScenariosWithoutMemory|TestWhole|TestCodes|TestFilled.*|TestMany.*|TestTrimAfter.*|TestFactsOutgrow.*|TestWalk|TestPurgeOfMany.*|TestKeptActorWithMany.*)$", "./runtime"}},
		{args: []string{"-timeout=240s", "-run", "^(TestTrimAfter.*|TestFactsOutgrow.*|TestWalk|TestPurgeOfMany.*|TestKeptActorWithMany.*)$", "./runtime"}},
		{args: []string{"-timeout=240s", "-run", "^(TestSim|TestKillOwner.*|TestStored.*)$", "./runtime/runtimetest"}, env: []string{"KAR_SIM_RUNS=8"}},
		{args: []string{"-timeout=180s", "./runtime/engine"}, realTime: true},
	}
}

type tester struct {
	root   string
	dir    string
	stages []stage
}

// start makes sure that the tests which are asked pass without a bug.
func (t *tester) start(engine bool) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	t.dir = dir
	for _, s := range t.stages {
		if s.realTime && !engine {
			continue
		}
		if out, err := t.play(s, ""); err != nil {
			return errors.Join(fmt.Errorf("without a bug %v fails: %w\n%s", s.args, err, out), t.end())
		}
	}
	return nil
}

func (t *tester) end() error { return os.RemoveAll(t.dir) }

func (t *tester) test(m mutant) (v verdict, how string, err error) {
	dir, err := os.MkdirTemp(t.dir, "bug")
	if err != nil {
		return "", "", err
	}
	file := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(file, m.mutated(), 0o600); err != nil {
		return "", "", err
	}
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(t.root, filepath.FromSlash(m.file)): file}})
	if err != nil {
		return "", "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return "", "", err
	}
	for _, s := range t.stages {
		if strings.HasPrefix(m.file, "runtime/engine/") != s.realTime && len(t.stages) > 1 {
			continue // the rules have their own tests, which do not import the engine
		}
		out, err := t.play(s, overlay)
		if err != nil && strings.Contains(out, "[build failed]") {
			return void, "", nil
		}
		if err != nil && s.realTime {
			out, err = t.play(s, overlay)
		}
		if err != nil {
			return killed, firstFailure(out), nil
		}
	}
	return survived, "by all", nil
}

func (t *tester) play(s stage, overlay string) (string, error) {
	args := []string{"test", "-short", "-count=1", "-vet=off", "-failfast"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	c := exec.Command("go", append(args, s.args...)...)
	c.Dir, c.Env = t.root, append(os.Environ(), s.env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

var failure = regexp.MustCompile(`--- FAIL: (\S+)|panic: (.*)`)

func firstFailure(out string) string {
	m := failure.FindStringSubmatch(out)
	if m == nil {
		return "no test named"
	}
	return m[1] + m[2]
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

package examples_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	accounts = 8
	opening  = 100_000
)

// A storm is a bank under load whose processes are killed all the time.
type storm struct {
	*mesh
	dir     string // of the bank's component
	api     string
	seed    uint64
	stop    chan struct{}
	wg      sync.WaitGroup
	kills   map[string]int
	gateway *respawned
	comps   []*respawned
}

// A respawned process is started again whenever it ends.
type respawned struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	out  *output
	runs int
}

func (r *respawned) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd == nil {
		return 0
	}
	return r.cmd.Process.Pid
}

// keep runs the command again and again until the storm is over.
func (s *storm) keep(make func() *exec.Cmd) *respawned {
	r := &respawned{out: &output{}}
	started := startAgain(s, r, make)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for cmd := started; cmd != nil; {
			cmd.Wait()
			select {
			case <-s.stop:
				return
			case <-time.After(50 * time.Millisecond): // as a supervisor that does not spin
			}
			cmd = startAgain(s, r, make)
		}
	}()
	return r
}

func startAgain(s *storm, r *respawned, make func() *exec.Cmd) *exec.Cmd {
	cmd := make()
	cmd.Stdout, cmd.Stderr = r.out, r.out
	cmd.WaitDelay = 2 * time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		s.t.Errorf("starting %v: %v", cmd.Args, err)
		return nil
	}
	r.cmd = cmd
	r.runs++
	return cmd
}

// TestBankStorm: transfers as tail-call chains while component, sidecar, guard,
// gateway, and gateway with component are killed with -9. Every transfer ends
// once, no money is lost or made, and no two steps of an account overlap.
// KAR_SOAK is a duration that makes it longer; KAR_SEED repeats its choices.
func TestBankStorm(t *testing.T) {
	length := 20 * time.Second
	if v := os.Getenv("KAR_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newStorm(t)
	t.Logf("seed %d, %s", s.seed, length)
	w := newWitness(t)
	s.start(w.port)
	client := &http.Client{Timeout: 30 * time.Second}
	s.open(client)

	ended := make(chan struct{})
	go func() { // the killer
		defer close(ended)
		s.kill(time.Now().Add(length))
	}()
	var sent, slowest atomic.Int64
	moved := make([]map[string]int, 6) // by client: what each account should have gained
	var clients sync.WaitGroup
	for i := range moved {
		moved[i] = map[string]int{}
		clients.Add(1)
		go func() {
			defer clients.Done()
			rng := rand.New(rand.NewPCG(s.seed, uint64(i)))
			for n := 0; !closed(ended); n++ {
				t0 := time.Now()
				s.transfer(client, rng, fmt.Sprintf("t%d-%d", i, n), moved[i])
				sent.Add(1)
				for took, old := int64(time.Since(t0)), slowest.Load(); took > old && !slowest.CompareAndSwap(old, took); old = slowest.Load() {
				}
			}
		}()
	}
	clients.Wait()
	s.count(client, moved)
	s.finish()
	steps, overlaps := w.close()
	for _, o := range overlaps {
		t.Error(o)
	}
	lost := strings.Count(s.gateway.out.String(), "no sign of life")
	t.Logf("%d transfers, the slowest took %s, %d steps begun, %d hosts lost by lease, kills %v",
		sent.Load(), time.Duration(slowest.Load()).Round(time.Millisecond), steps, lost, s.kills)
	if sent.Load() < 20 || steps < 4*int(sent.Load()) {
		t.Errorf("only %d transfers with %d steps: nothing was tested", sent.Load(), steps)
	}
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	s := &storm{mesh: newMesh(t), dir: node(t, "bank"), stop: make(chan struct{}), kills: map[string]int{}, seed: uint64(time.Now().UnixNano())}
	if v := os.Getenv("KAR_SEED"); v != "" {
		if _, err := fmt.Sscan(v, &s.seed); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, filepath.Join("testdata", "bank-witness"), filepath.Join(s.dir, "watched"))
	return s
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// start runs a gateway and two components, each started again when it ends.
func (s *storm) start(witnessPort string) {
	address := "127.0.0.1:" + freePort(s.t)
	s.api = "http://" + address
	s.gateway = s.keep(func() *exec.Cmd {
		cmd := exec.Command(s.bin, "gateway", "--listen", address)
		cmd.Env = s.env
		return cmd
	})
	for range 2 {
		s.comps = append(s.comps, s.keep(func() *exec.Cmd {
			cmd := exec.Command(s.bin, "run", "-app", "bank", "-actors", "Account", "-app_port", freePort(s.t), "-missing_component_timeout", "0", "-actor_busy_timeout", "0", "--", "node", "watched/server.js")
			cmd.Dir = s.dir
			cmd.Env = append(s.env[:len(s.env):len(s.env)], "KAR_GATEWAY="+s.api, "NODE_OPTIONS=--no-deprecation", "BANK_WITNESS="+witnessPort, "BANK_DIR="+s.dir)
			return cmd
		}))
	}
	s.t.Cleanup(s.finish)
}

// finish ends everything, once.
func (s *storm) finish() {
	if closed(s.stop) {
		return
	}
	close(s.stop)
	for _, r := range append(s.comps, s.gateway) {
		syscall.Kill(r.pid(), syscall.SIGTERM)
	}
	s.wg.Wait()
	if s.t.Failed() {
		for _, r := range append(s.comps, s.gateway) {
			text := r.out.String()
			s.t.Logf("%v (%d runs) printed:\n%s", r.cmd.Args, r.runs, text[max(0, len(text)-6000):])
		}
	}
}

// kill takes down one thing after the other.
func (s *storm) kill(end time.Time) {
	rng := rand.New(rand.NewPCG(s.seed, 1000))
	for time.Now().Before(end) {
		time.Sleep(time.Duration(400+rng.IntN(1200)) * time.Millisecond) // the load runs meanwhile
		comp := s.comps[rng.IntN(len(s.comps))].pid()
		guard := child(comp)
		app := child(guard)
		var what string
		switch rng.IntN(6) {
		case 0, 1:
			what = "component"
			strike(app)
		case 2:
			what = "sidecar"
			strike(comp)
		case 3:
			what = "guard"
			strike(guard)
		case 4:
			what = "gateway"
			strike(s.gateway.pid())
		case 5:
			what = "gateway and component"
			strike(s.gateway.pid())
			strike(app)
		}
		s.kills[what]++
	}
}

func strike(pid int) {
	if pid > 1 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// child is the first child of a process, 0 when there is none.
func child(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return childByScan(pid)
	}
	var first int
	fmt.Sscan(string(b), &first)
	if first == 0 {
		return childByScan(pid) // another thread of it may have made the child
	}
	return first
}

func childByScan(pid int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		var state string
		var parent, found int
		fmt.Sscan(rest, &state, &parent)
		if parent == pid && pid != 0 && state != "Z" {
			fmt.Sscan(string(b), &found)
			return found
		}
	}
	return 0
}

// call sends a call under an idempotency key until it has an outcome.
func (s *storm) call(client *http.Client, account, method, key, args string) string {
	url := s.api + "/apps/bank/kar/v1/actor/Account/" + account + "/call/" + method
	header := map[string]string{"Content-Type": "application/kar+json", "Idempotency-Key": key}
	end := time.Now().Add(90 * time.Second)
	for {
		status, body, err := send(client, "POST", url, header, args)
		switch {
		case err == nil && status == 200:
			var answer struct {
				Value json.RawMessage
				Error bool
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error {
				s.t.Errorf("%s %s: %s", account, method, body)
			}
			return string(answer.Value)
		case err == nil && status != 503 && status != 504:
			s.t.Errorf("%s %s(%s): %d %s", account, method, args, status, body)
			return ""
		case time.Now().After(end):
			s.t.Errorf("%s %s(%s): no outcome for 90 s: %d %s %v", account, method, args, status, body, err)
			return ""
		}
		time.Sleep(20 * time.Millisecond) // the gateway is being started again
	}
}

func (s *storm) open(client *http.Client) {
	for i := range accounts {
		if got := s.call(client, fmt.Sprintf("a%d", i), "open", fmt.Sprintf("open-%d", i), fmt.Sprintf("[%d]", opening)); got != fmt.Sprint(opening) {
			s.t.Fatalf("opening account %d: %q", i, got)
		}
	}
}

// transfer moves a little money and notes what should have come of it.
func (s *storm) transfer(client *http.Client, rng *rand.Rand, id string, moved map[string]int) {
	from, to := rng.IntN(accounts), rng.IntN(accounts-1)
	if to >= from {
		to++
	}
	amount := 1 + rng.IntN(9)
	a, b := fmt.Sprintf("a%d", from), fmt.Sprintf("a%d", to)
	if got := s.call(client, a, "withdraw", id, fmt.Sprintf("[%q,%q,%d]", id, b, amount)); got != `"done"` {
		s.t.Errorf("transfer %s: %q", id, got)
	}
	moved[a] -= amount
	moved[b] += amount
}

// count compares every account with what the clients have been told.
func (s *storm) count(client *http.Client, moved []map[string]int) {
	total := 0
	for i := range accounts {
		name := fmt.Sprintf("a%d", i)
		var got struct{ Balance, Marks int }
		answer := s.call(client, name, "report", "report-"+name, "[]")
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			s.t.Errorf("report of %s: %v in %q", name, err, answer)
			continue
		}
		want := opening
		for _, m := range moved {
			want += m[name]
		}
		if got.Balance != want || got.Marks != 0 {
			s.t.Errorf("%s has %d with %d marks left, should have %d and none", name, got.Balance, got.Marks, want)
		}
		total += got.Balance
	}
	if total != accounts*opening {
		s.t.Errorf("the bank holds %d, was given %d", total, accounts*opening)
	}
}

// TestBank is the example as its README tells it.
func TestBank(t *testing.T) {
	dir := node(t, "bank")
	m := newMesh(t)
	m.run(dir, []string{"-app", "bank", "-service", "bank", "-actors", "Account"}, "node", "server.js")
	m.gives("100", "invoke", "-app", "bank", "Account", "alice", "open", "100")
	m.gives("50", "invoke", "-app", "bank", "Account", "bob", "open", "50")
	m.gives(`"done"`, "invoke", "-app", "bank", "Account", "alice", "withdraw", "t1", "bob", "30")
	m.gives(`"refused"`, "invoke", "-app", "bank", "Account", "alice", "withdraw", "t2", "bob", "71")
	m.gives(`{"total":150,"open":0}`, "rest", "-app", "bank", "post", "bank", "audit", `["alice","bob"]`)
}

// TestRepeatedKeyOfChain: a chain that ends on another actor than the one it
// began on is found again under its Idempotency-Key.
func TestRepeatedKeyOfChain(t *testing.T) {
	s := newStorm(t)
	w := newWitness(t)
	s.start(w.port)
	client := &http.Client{Timeout: 30 * time.Second}
	s.open(client)
	for range 3 {
		if got := s.call(client, "a0", "withdraw", "once", `["once","a1",7]`); got != `"done"` {
			t.Errorf("answer %q", got)
		}
	}
	s.count(client, []map[string]int{{"a0": -7, "a1": 7}})
	s.finish()
	if steps, _ := w.close(); steps != 4 {
		t.Errorf("%d steps were run for one transfer of four", steps)
	}
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// three starts a mesh of three gateways with a component at each of the first two.
func (s *sharedMesh) three(name string) (*nodes, error) {
	m, err := s.mesh(name, 3, defaultPartitions)
	if err != nil {
		return nil, err
	}
	for i := range 2 {
		if _, err := m.startComponent(i); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

// hosts has hosts end in two ways.
func (s *sharedMesh) hosts() error {
	m, err := s.three("hosts")
	if err != nil {
		return err
	}
	defer m.close()
	return errors.Join(s.hostKilled(m), s.hostVanished(m))
}

// times is how many are needed for the figures at scale 1.
func (b *bench) times(n int) int { return max(2, int(float64(n)*b.scale)) }

// hostKilled kills the app's process: its exit is seen, and another host is there.
func (s *sharedMesh) hostKilled(m *nodes) error {
	var times []time.Duration
	kills := s.b.times(30)
	for i := range kills {
		more, err := s.restarted(m, fmt.Sprint("k", i), func(_ *component, pid int) error { return syscall.Kill(pid, syscall.SIGKILL) })
		if err != nil {
			return fmt.Errorf("%w\n%s", err, m.tails())
		}
		times = append(times, more...)
	}
	f := figureOf(times, time.Second)
	s.b.row(fmt.Sprintf("host killed (%d times): %d requests start again", kills, f.done), fmt.Sprintf("p50 %s  p99 %s  max %s", short(f.p50), short(f.p99), short(f.max)), "p99 <= 1 s", "")
	return nil
}

// hostVanished stops all processes of a component, so that nothing is reported.
func (s *sharedMesh) hostVanished(m *nodes) error {
	var times []time.Duration
	kills := s.b.times(3)
	for i := range kills {
		more, err := s.restarted(m, fmt.Sprint("v", i), func(c *component, _ int) error {
			for _, pid := range tree(c.cmd.Process.Pid) {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, m.tails())
		}
		times = append(times, more...)
	}
	f := figureOf(times, time.Second)
	s.b.row(fmt.Sprintf("host vanished (%d times): %d requests start again", kills, f.done), fmt.Sprintf("p50 %s  p99 %s  max %s", short(f.p50), short(f.p99), short(f.max)), "lease + 2 s = 8 s", "")
	return nil
}

// restarted stalls requests on both hosts, takes one host away, and returns how
// long each of its requests took to start on the other one. Then a new
// component takes its place.
func (s *sharedMesh) restarted(m *nodes, prefix string, takeAway func(c *component, pid int) error) ([]time.Duration, error) {
	const requests = 16
	type answer struct {
		actor string
		start time.Time
		err   error
	}
	answers := make(chan answer, requests)
	for i := range requests {
		actor := prefix + "-" + strconv.Itoa(i)
		go func() {
			c := newConn("tcp", m.gateways[i%len(m.gateways)].addr)
			defer c.close()
			code, body, err := c.do("POST", "/apps/bench/kar/v1/actor/Bench/"+actor+"/call/stall", callHeader, []byte("[]"))
			var value struct{ Value int64 }
			if err == nil && code != 200 {
				err = fmt.Errorf("stall: %d %.200s", code, body)
			}
			if err == nil {
				err = json.Unmarshal(body, &value)
			}
			answers <- answer{actor, time.UnixMicro(value.Value), err}
		}()
	}
	lists := make([]stalledActors, len(m.comps))
	_, err := until(s.b.ctx, "all requests to run", func() bool {
		n := 0
		for i, c := range m.comps {
			lists[i] = c.stalled()
			n += len(lists[i].Actors)
		}
		return n == requests || len(answers) > 0
	})
	if err != nil {
		return nil, err
	}
	victim := 0
	for i := range lists {
		if len(lists[i].Actors) > len(lists[victim].Actors) {
			victim = i
		}
	}
	c := m.comps[victim]
	defer c.kill()
	began := time.Now()
	if err := takeAway(c, lists[victim].PID); err != nil {
		return nil, err
	}
	m.forget(c)
	var times []time.Duration
	for n := range requests {
		if n == len(lists[victim].Actors) {
			for _, x := range m.comps {
				x.release()
			}
		}
		select {
		case a := <-answers:
			if a.err != nil {
				return nil, a.err
			}
			if slices.Contains(lists[victim].Actors, a.actor) {
				times = append(times, a.start.Sub(began))
			}
		case <-time.After(time.Minute):
			return nil, errors.New("a request did not start again within a minute")
		case <-s.b.ctx.Done():
			return nil, s.b.ctx.Err()
		}
	}
	c.kill()
	_, err = m.startComponent(c.at)
	return times, err
}

// kill ends all processes of the component, also stopped ones, and waits.
func (c *component) kill() {
	for _, pid := range tree(c.cmd.Process.Pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-c.done
}

// stalled asks the app which actors wait in it.
func (c *component) stalled() (s stalledActors) {
	conn := newConn("tcp", c.app)
	defer conn.close()
	if _, body, err := conn.do("GET", "/bench/stalled", "", nil); err == nil {
		json.Unmarshal(body, &s)
	}
	return s
}

func (c *component) release() {
	conn := newConn("tcp", c.app)
	defer conn.close()
	conn.do("GET", "/bench/release", "", nil)
}

// tree are a process and all its descendants, none when it is gone.
func tree(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		text, err := os.ReadFile(f)
		_, rest, ok := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if err != nil || !ok || len(fields) < 2 {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
		if pid == root {
			children[0] = append(children[0], pid)
		}
	}
	var all []int
	var visit func(pid int)
	visit = func(pid int) {
		all = append(all, pid)
		for _, c := range children[pid] {
			visit(c)
		}
	}
	if slices.Contains(children[0], root) {
		visit(root)
	}
	return all
}

// A watch is one client that calls its actor again and again, and when each
// answer came.
type watch struct {
	what   string
	done   []time.Time
	errors []error
}

// watchers run one client per actor until stop is closed.
func watchers(wg *sync.WaitGroup, stop chan struct{}, addr func(i int) string, actors []string, think time.Duration) []*watch {
	var all []*watch
	for i, actor := range actors {
		w := &watch{what: actor + " via " + addr(i)}
		all = append(all, w)
		wg.Go(func() {
			c := newConn("tcp", addr(i))
			defer c.close()
			do := callActors(prefix, []string{actor})
			for {
				if err := do(c, 0); err != nil {
					w.errors = append(w.errors, err)
				} else {
					w.done = append(w.done, time.Now())
				}
				select {
				case <-stop:
					return
				case <-time.After(think):
				}
			}
		})
	}
	return all
}

// gap is the longest time without an answer that overlaps the span.
func (w *watch) gap(from, to time.Time) time.Duration {
	var longest time.Duration
	for i := 1; i < len(w.done); i++ {
		if w.done[i].After(from) && w.done[i-1].Before(to) {
			longest = max(longest, w.done[i].Sub(w.done[i-1]))
		}
	}
	return longest
}

// kills has gateways killed with -9 while clients at the others call.
func (s *sharedMesh) kills() error {
	m, err := s.three("kills")
	if err != nil {
		return err
	}
	defer m.close()
	kills := s.b.times(6)
	for _, x := range []struct {
		victim int
		what   string
	}{{2, "no host at it"}, {0, "a host at it"}} {
		var its, others, calm []time.Duration
		var failed []error
		for i := range kills {
			if x.victim == 0 && i > 0 { // its component has moved on
				if err := s.moveTo(m, 0); err != nil {
					return err
				}
			}
			k, err := s.killGateway(m, x.victim)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, m.tails())
			}
			its, others, calm, failed = append(its, k.its...), append(others, k.others...), append(calm, k.calm...), append(failed, k.errors...)
		}
		f, o, c := figureOf(its, time.Second), figureOf(others, time.Second), figureOf(calm, time.Second)
		s.b.row(fmt.Sprintf("gateway killed (%d times, %s): its flows resume", kills, x.what), fmt.Sprintf("p50 %s  p99 %s  max %s", short(f.p50), short(f.p99), short(f.max)), "p50 1.5 s, p99 <= 3 s", "")
		s.b.row("  longest gap of each of the others", fmt.Sprintf("p50 %s  p99 %s  max %s (as long before: p50 %s p99 %s max %s)", short(o.p50), short(o.p99), short(o.max), short(c.p50), short(c.p99), short(c.max)), "<= 100 ms", "")
		if len(failed) > 0 {
			s.b.row("  answers that were errors", fmt.Sprintf("%d, the first: %v", len(failed), failed[0]), "0", "")
		}
	}
	return nil
}

// killed is what one kill of a gateway showed.
type killed struct {
	its, others, calm []time.Duration
	errors            []error
}

func (s *sharedMesh) killGateway(m *nodes, victim int) (k killed, err error) {
	if _, err := m.settled(20 * time.Second); err != nil {
		return k, err
	}
	if err := m.together(20 * time.Second); err != nil {
		return k, err
	}
	const each = 8
	var alive []int
	for i := range m.gateways {
		if i != victim {
			alive = append(alive, i)
		}
	}
	at := func(i int) string { return m.gateways[alive[i%2]].addr }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	its := watchers(&wg, stop, at, m.actorsOf(victim, each, "g"), 20*time.Millisecond)
	var rest []string
	for i := range each {
		rest = append(rest, m.actorsOf(alive[i/2%2], each, "g")[i])
	}
	others := watchers(&wg, stop, at, rest, 20*time.Millisecond)
	time.Sleep(3 * time.Second) // warm-up, and a calm time to compare with
	g := m.gateways[victim]
	began := time.Now()
	g.end(syscall.SIGKILL)
	time.Sleep(4 * time.Second)
	close(stop)
	wg.Wait()
	const watched = 1500 * time.Millisecond
	for _, w := range its {
		k.its = append(k.its, w.resumed(began))
		k.errors = append(k.errors, w.errors...)
	}
	for _, w := range others {
		k.others = append(k.others, w.gap(began, began.Add(watched)))
		k.calm = append(k.calm, w.gap(began.Add(-watched), began))
		k.errors = append(k.errors, w.errors...)
	}
	return k, m.startGateway(victim)
}

// resumed is how long after the kill the time without an answer ended that
// began with it: clients call every few milliseconds.
func (w *watch) resumed(kill time.Time) time.Duration {
	longest, end := time.Duration(0), kill.Add(time.Hour) // never
	for i := 1; i < len(w.done) && w.done[i-1].Before(kill.Add(100*time.Millisecond)); i++ {
		if gap := w.done[i].Sub(w.done[i-1]); w.done[i].After(kill) && gap > longest {
			longest, end = gap, w.done[i]
		}
	}
	return end.Sub(kill)
}

// moveTo starts the component that was at the gateway anew there.
func (s *sharedMesh) moveTo(m *nodes, gateway int) error {
	if _, err := m.settled(20 * time.Second); err != nil {
		return err
	}
	for _, c := range m.comps {
		if c.at == gateway {
			c.end(syscall.SIGTERM)
			m.forget(c)
			break
		}
	}
	_, err := m.startComponent(gateway)
	return err
}

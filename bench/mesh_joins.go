package main

import (
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// joins has clients come and go while others call 100 times a second, in turns
// with the same time without any event.
func (s *sharedMesh) joins() error {
	m, err := s.three("joins")
	if err != nil {
		return err
	}
	defer m.close()
	events := []string{"nothing", "kar invoke", "component joins", "component leaves"}
	gaps := map[string][]time.Duration{}
	for range s.b.times(10) {
		for _, what := range events {
			gap, err := s.longestGap(m, func() error { return s.event(m, what) })
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", what, err, m.tails())
			}
			gaps[what] = append(gaps[what], gap)
		}
	}
	calm := slices.Max(gaps["nothing"])
	for _, what := range events {
		f := figureOf(gaps[what], time.Second)
		text := fmt.Sprintf("p50 %s  max %s", short(f.p50), short(f.max))
		if what == "nothing" {
			s.b.row("100 calls/s: longest time without any completion", text, "", "")
			continue
		}
		s.b.row("  when "+what, fmt.Sprintf("%s (%+.1f ms)", text, float64(f.max-calm)/1e6), "<= 20 ms more", "")
	}
	return nil
}

func (s *sharedMesh) event(m *nodes, what string) error {
	switch what {
	case "kar invoke":
		cmd := exec.CommandContext(s.b.ctx, s.b.kar, "invoke", "-app", "bench", "-gateway", "http://"+m.gateways[1].addr, "Bench", "invoked", "echo", "1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	case "component joins":
		_, err := m.startComponent(2)
		return err
	case "component leaves":
		c := m.comps[len(m.comps)-1]
		c.end(syscall.SIGTERM)
		m.forget(c)
	}
	return nil
}

// longestGap calls 100 times a second for a while, during which the event
// happens, and returns the longest time without any completion.
func (s *sharedMesh) longestGap(m *nodes, event func() error) (time.Duration, error) {
	const clients = 20
	var mu sync.Mutex
	var done []time.Time
	var failed error
	work := make(chan int, 1000)
	var wg sync.WaitGroup
	do := call(prefix, 100, "echo")
	for i := range clients {
		wg.Go(func() {
			c := newConn("tcp", m.gateways[i%len(m.gateways)].addr)
			defer c.close()
			for n := range work {
				err := do(c, n)
				mu.Lock()
				if done = append(done, time.Now()); err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	happened := make(chan error, 1)
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	for n := 0; time.Since(began) < 1500*time.Millisecond; n++ {
		if n == 30 {
			go func() { happened <- event() }()
		}
		work <- n
		<-tick.C
	}
	tick.Stop()
	close(work)
	wg.Wait()
	if err := <-happened; err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	slices.SortFunc(done, time.Time.Compare)
	var longest time.Duration
	for i := 30; i < len(done); i++ { // what came before the event warmed up
		longest = max(longest, done[i].Sub(done[i-1]))
	}
	return longest, nil
}

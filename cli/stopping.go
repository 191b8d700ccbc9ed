package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/karmesh/kar/cli/guard"
	"github.com/karmesh/kar/runtime"
)

// reportLimit is how long the end of a component may take to reach a gateway;
// when none hears it the lease tells.
const reportLimit = 3 * time.Second

// signals are those that end `kar run`.
type signals struct{ ch chan os.Signal }

// catchSignals leaves alone what whoever started us had ignored (nohup).
func catchSignals() *signals {
	s := &signals{ch: make(chan os.Signal, 4)}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(s.ch, sig)
		}
	}
	return s
}

func (s *signals) stop() { signal.Stop(s.ch) }

// serve waits for the first reason to end, sees the component to its end, and
// returns the exit code.
func (s *sidecar) serve(ctx context.Context) (int, error) {
	child := s.running()
	var done <-chan struct{}
	if child != nil {
		done = child.Done()
	}
	var err error
	var sig syscall.Signal
	select {
	case <-done:
	case got := <-s.signals.ch:
		sig, _ = got.(syscall.Signal)
		err = s.stopOn(sig, child)
	case <-s.shutdown:
		s.drain()
		if child == nil {
			s.outlast()
		} else {
			// As in KAR 1.x the component ends by itself; only for so long, though.
			if !s.awaitEnd(child, s.spec.grace) {
				s.end(child, syscall.SIGTERM)
			}
		}
	case err = <-s.ended:
		if err == nil {
			err = runtime.Errorf(runtime.CodeInternal, "the connection to the gateway was given up")
		}
		if child != nil {
			s.end(child, syscall.SIGTERM)
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if child == nil {
		s.report("the sidecar ended, and nothing ran in the component")
		if sig != 0 {
			return 0, nil
		}
		return 0, err
	}
	exit, werr := child.Wait(context.Background())
	if werr != nil {
		return exitFailed, werr
	}
	if exit.Left != "" {
		s.leaves(exit.Left)
	}
	s.report(exit.Reason)
	return exit.Code, err
}

// stopOn is the orderly end: running work ends and no new work comes, then the
// component gets the signal, then it is killed. A second signal kills at once.
func (s *sidecar) stopOn(sig syscall.Signal, child *guard.Child) error {
	s.told = true
	s.log.Warn("exiting...", "signal", sig)
	s.drain()
	if child == nil {
		s.outlast()
	} else {
		s.end(child, sig)
	}
	return nil
}

// outlast waits, without a limit, for what runs in a component that is somebody
// else's process: after us nobody could say how it ended, and it would be tried
// again beside itself. Another signal ends the wait.
func (s *sidecar) outlast() {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	drained := make(chan struct{})
	s.wait.Go(func() {
		defer close(drained)
		_ = s.host.DrainAttempts(ctx) // its only error is the end of ctx
	})
	say := time.NewTimer(time.Second)
	defer say.Stop()
	for {
		select {
		case <-drained:
			return
		case <-s.signals.ch:
			return
		case <-say.C:
			s.log.Warn("waiting for work that runs in the component, which this process cannot stop; another signal ends at once")
		}
	}
}

// drain returns when no work is left, the grace period is over, the component
// has ended, or a signal asks for haste.
func (s *sidecar) drain() {
	ctx, cancel := context.WithTimeout(s.ctx, s.spec.grace)
	defer cancel()
	drained := make(chan struct{})
	s.wait.Go(func() {
		defer close(drained)
		if err := s.host.Drain(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Warn("not all work has ended", "error", err)
		}
	})
	var done <-chan struct{}
	if c := s.running(); c != nil {
		done = c.Done()
	}
	select {
	case <-drained:
	case <-done:
	case sig := <-s.signals.ch:
		s.signals.ch <- sig // for the next step
	}
}

// end forwards the signal, waits for the grace period, and kills.
func (s *sidecar) end(child *guard.Child, sig syscall.Signal) {
	child.Thaw() // a stopped process cannot end by itself
	child.Signal(sig)
	if !s.awaitEnd(child, s.spec.grace) {
		child.Kill("it did not end within the grace period")
	}
}

// awaitEnd is false when the time is over or another signal came.
func (s *sidecar) awaitEnd(child *guard.Child, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-child.Done():
		return true
	case <-s.signals.ch:
	case <-timer.C:
	}
	return false
}

// report tells the gateway that nothing of the component runs any more.
func (s *sidecar) report(reason string) {
	if reason == "" {
		reason = "the process exited"
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportLimit)
	defer cancel()
	if err := s.host.Exit(ctx, reason); err != nil {
		s.log.Warn("the end of the component was not reported; it is counted lost when its lease has run out", "error", err)
	}
}

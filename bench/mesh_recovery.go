package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// recovery kills the only gateway of a mesh with history and pending work, and
// starts it again when its lease has run out.
func (s *sharedMesh) recovery() error {
	b := s.b
	m, err := s.mesh("history", 1, defaultPartitions)
	if err != nil {
		return err
	}
	defer m.close()
	if _, err := m.startComponent(0); err != nil {
		return err
	}
	pending := b.count(10_000)
	addr := m.gateways[0].addr
	tell := func(c *conn, n int) error {
		path := fmt.Sprintf("%s/kar/v1/actor/Nobody/n%d/call/echo", prefix, n)
		status, body, err := c.do("POST", path, callHeader+"Pragma: async\r\n", []byte(argument))
		if err == nil && status != 202 {
			err = fmt.Errorf("%s: %d %.200q", path, status, body)
		}
		return err
	}
	if _, err := load("tcp", addr, 64, 0, 0, pending, tell); err != nil {
		return fmt.Errorf("%w\n%s", err, m.tails())
	}
	echo := call(prefix, 100_000, "echo")
	do := func(c *conn, n int) error { return errors.Join(echo(c, n), b.ctx.Err()) }
	calls := 0
	for _, records := range []int{b.count(100_000), b.count(1_000_000)} {
		f, err := load("tcp", addr, 128, 0, 0, records/2-calls, do)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, m.tails())
		}
		calls = records / 2
		held, _ := m.gateways[0].status()
		m.gateways[0].end(syscall.SIGKILL)
		time.Sleep(2500 * time.Millisecond) // its lease
		began := time.Now()
		if err := m.startGateway(0); err != nil {
			return err
		}
		if _, err := m.settled(time.Minute); err != nil {
			return err
		}
		took := time.Since(began)
		c := newConn("tcp", addr)
		if err := do(c, 0); err != nil {
			return err
		}
		first := time.Since(began)
		c.close()
		now, err := m.gateways[0].status()
		if err != nil {
			return err
		}
		if now.Stats.Pending < pending {
			return fmt.Errorf("%d of %d requests are pending after the recovery", now.Stats.Pending, pending)
		}
		b.row(fmt.Sprintf("recovery of %d partitions, %d records, %d pending", m.partitions, records, pending),
			fmt.Sprintf("%s from the start of the process, first call after %s (log %s, made at %.0f calls/s)", short(took), short(first), mega(held.Stats.LogBytes), f.perSec), "<= 3 s, flat", "")
	}
	return nil
}

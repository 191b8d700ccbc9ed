package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// size measures the binary, the time from nothing to ready, and idle memory.
func (b *bench) size() error {
	if _, err := b.binary(); err != nil {
		return err
	}
	b.row("kar binary", mega(fileSize(b.kar)), "<= 48 MB", "40 MB")
	var ready []time.Duration
	var idle int64
	for i := range 5 {
		m, err := b.mesh(fmt.Sprintf("size-%d", i))
		if err != nil {
			return err
		}
		m.close()
		t, err := m.startGatewayIn(fmt.Sprintf("size-%d-again", i))
		if err != nil {
			return err
		}
		ready = append(ready, t)
		if i == 4 {
			time.Sleep(2 * time.Second) // what idles after start has settled
			idle = m.gateway.resident()
		}
		m.close()
	}
	slices.Sort(ready)
	b.row("gateway ready on an empty folder, median and worst of 5", short(ready[2])+", "+short(ready[4]), "<= 100 ms", "")
	b.row("gateway resident, idle", mega(idle), "<= 50 MB", "40 MB")
	return nil
}

// startGatewayIn starts the gateway on another, empty state folder.
func (m *mesh) startGatewayIn(name string) (time.Duration, error) {
	dir, err := m.b.folder(name)
	if err != nil {
		return 0, err
	}
	m.dir, m.state = dir, dir+"/state"
	return m.startGateway()
}

// history runs a million requests over 100,000 actors, then compares with a
// fresh folder, kills the gateway and takes the time of its return.
func (b *bench) history() error {
	requests, actors := b.count(1_000_000), b.count(100_000)
	m, err := b.mesh("history")
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.startComponent(); err != nil {
		return err
	}
	compare := func() (figure, error) {
		return load("tcp", m.api, 16, b.length(time.Second), b.length(8*time.Second), 0, call(prefix, 1000, "echo"))
	}
	before, err := compare()
	if err != nil {
		return err
	}
	b.row("fresh folder, 16 clients", before.String(), "", "")
	freshRSS := m.gateway.resident()
	f, err := load("tcp", m.api, 128, 0, time.Hour, requests, call(prefix, actors, "echo"))
	if err != nil {
		return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
	}
	b.row(fmt.Sprintf("%d requests over %d actors, 128 clients", requests, actors), f.String(), "", "")
	full := m.gateway.resident()
	b.row("gateway resident: fresh, right after the history", mega(freshRSS)+", "+mega(full), "", "")
	b.row("state folder", mega(m.onDisk()), "", "")
	after, err := compare()
	if err != nil {
		return err
	}
	b.row("after the history, 16 clients", after.String()+ratio(after.perSec, before.perSec, "fresh"), "within 10 %", "")
	m.gateway.end(syscall.SIGKILL)
	t, err := m.startGateway()
	if err != nil {
		return err
	}
	t0 := time.Now()
	if err := m.answers(time.Minute); err != nil {
		return err
	}
	b.row("gateway killed -9: ready again, then first call answered", short(t)+", "+short(time.Since(t0)), "< 2 s", "")
	time.Sleep(b.length(15 * time.Second)) // idle collection has passed once
	resident := m.gateway.resident()
	ids := int64(requests) * 16
	b.row("resident after recovery; less 16 bytes for each id", mega(resident)+", "+mega(resident-ids), "bounded by what is active", "")
	return os.RemoveAll(m.state)
}

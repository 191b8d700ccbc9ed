package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// againstOther compares this kar with another binary, for example one of the
// commit before a change: both run at the same time, each with a gateway and a
// component of its own, and are loaded in turns of a second. Whatever else the
// machine does meets both alike, so that a few percent can be seen; what is
// compared is the median of the turns' ratios.
func (b *bench) againstOther() error {
	if b.other == "" {
		return errors.New("name the other binary with -other")
	}
	if _, err := b.binary(); err != nil {
		return err
	}
	var meshes [2]*mesh
	for i, kar := range []string{b.other, b.kar} {
		from := *b
		from.kar = kar
		m, err := from.mesh([]string{"other", "this"}[i])
		if err != nil {
			return err
		}
		defer m.close()
		if err := m.startComponent(); err != nil {
			return err
		}
		meshes[i] = m
	}
	for _, p := range []struct {
		what         string
		addr         func(*mesh) string
		prefix, does string
		clients      int
	}{
		{"gateway's API, 1 client", func(m *mesh) string { return m.api }, prefix, "echo", 1},
		{"gateway's API, 128 clients", func(m *mesh) string { return m.api }, prefix, "echo", 128},
		{"own sidecar, 1 client", func(m *mesh) string { return m.side }, "", "echo", 1},
		{"own sidecar, 128 clients", func(m *mesh) string { return m.side }, "", "echo", 128},
		{"state key, 16 clients", func(m *mesh) string { return m.api }, prefix, "touch", 16},
		{"state key, 128 clients", func(m *mesh) string { return m.api }, prefix, "touch", 128},
	} {
		do := call(p.prefix, 1000, p.does)
		var cpu [2]*cpuMeter
		for i, m := range meshes {
			cpu[i] = meter([]string{"gateway", "sidecar and app"}, m.gateway, m.comp)
			if _, err := load("tcp", p.addr(m), p.clients, 0, b.length(2*time.Second), 0, do); err != nil {
				return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
			}
		}
		var speeds, costs []float64
		for turn := range b.count(2000) / 100 {
			var perSec, cost [2]float64
			for i := range meshes {
				i = (i + turn) % 2 // who begins changes too
				m := meshes[i]
				one := *cpu[i]
				one.groups = slices.Clone(cpu[i].groups)
				one.begin()
				f, all, err := loadOver("tcp", []string{p.addr(m)}, p.clients, 0, time.Second, 0, do)
				if err != nil {
					return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
				}
				one.end(len(all))
				perSec[i], cost[i] = f.perSec, one.perCall()
			}
			speeds, costs = append(speeds, perSec[1]/perSec[0]), append(costs, cost[1]/cost[0])
		}
		b.row(p.what, fmt.Sprintf("%.3f × the other's calls/s (quarters %.3f to %.3f), %.3f × its CPU a call",
			at(speeds, 0.5), at(speeds, 0.25), at(speeds, 0.75), at(costs, 0.5)), "", "")
	}
	return nil
}

// at is the value below which that part of all lies.
func at(all []float64, part float64) float64 {
	slices.Sort(all)
	return all[int(part*float64(len(all)-1)+0.5)]
}

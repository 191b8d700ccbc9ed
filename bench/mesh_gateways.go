package main

import (
	"fmt"
	"time"
)

// gateways measures what it costs that there are several: throughput of three
// beside one, and a call whose client, owner and host are at different ones.
func (s *sharedMesh) gateways() error {
	b := s.b
	one, err := s.mesh("alone", 1, defaultPartitions)
	if err != nil {
		return err
	}
	defer one.close()
	three, err := s.mesh("three", 3, defaultPartitions)
	if err != nil {
		return err
	}
	defer three.close()
	for _, m := range []*nodes{one, three} {
		if _, err := m.startComponent(0); err != nil {
			return err
		}
	}
	do := call(prefix, 1000, "echo")
	length := b.length(3 * time.Second)
	var ones, threes []time.Duration
	cpuOne := meter([]string{"gateway", "sidecar and app"}, one.gateways[0].proc, one.comps[0].proc).withKafka()
	cpuThree := meter([]string{"gateway 1", "2", "3", "sidecar and app"}, three.gateways[0].proc, three.gateways[1].proc, three.gateways[2].proc, three.comps[0].proc).withKafka()
	for i := range rounds + 1 {
		for _, x := range []struct {
			m     *nodes
			times *[]time.Duration
			cpu   *cpuMeter
		}{{one, &ones, cpuOne}, {three, &threes, cpuThree}} {
			x.cpu.begin()
			more, err := s.load(x.m.addrs(), 128, 0, length, do)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, x.m.tails())
			}
			if i > 0 { // the first round warms up
				x.cpu.end(len(more))
				*x.times = append(*x.times, more...)
			}
		}
	}
	fo, ft := figureOf(ones, rounds*length), figureOf(threes, rounds*length)
	b.row("one gateway, 128 clients", fo.String(), "", "")
	b.row("", cpuOne.String(), "", "")
	b.row("three gateways, 128 clients spread, component at one", ft.String()+ratio(ft.perSec, fo.perSec, "one"), ">= 0.8 x one", "")
	b.row("", cpuThree.String()+ratio(cpuOne.perCall(), cpuThree.perCall(), "one"), "", "")
	return s.hops(three)
}

// hops compares calls by how many streams between gateways they cross.
func (s *sharedMesh) hops(m *nodes) error {
	b := s.b
	actors := [][]string{m.actorsOf(0, 300, "h"), m.actorsOf(1, 300, "h")}
	paths := []struct {
		what       string
		via, owner int
		times      map[int][]time.Duration
	}{
		{"client, owner and host at one gateway", 0, 0, map[int][]time.Duration{}},
		{"host at another (relayed)", 1, 1, map[int][]time.Duration{}},
		{"client at another (forwarded)", 1, 0, map[int][]time.Duration{}},
	}
	length := b.length(1500 * time.Millisecond)
	for i := range rounds + 1 {
		for _, p := range paths {
			for _, clients := range []int{1, 64} {
				times, err := s.load([]string{m.gateways[p.via].addr}, clients, b.length(200*time.Millisecond), length, callActors(prefix, actors[p.owner]))
				if err != nil {
					return fmt.Errorf("%w\n%s", err, m.tails())
				}
				if i > 0 { // the first round makes every actor active
					p.times[clients] = append(p.times[clients], times...)
				}
			}
		}
	}
	for _, clients := range []int{1, 64} {
		base := figureOf(paths[0].times[clients], rounds*length)
		for i, p := range paths {
			f := figureOf(p.times[clients], rounds*length)
			text := f.String()
			if i > 0 && clients == 1 {
				text += fmt.Sprintf("  = %+.0f µs", float64(f.p50-base.p50)/1e3)
			} else if i > 0 {
				text += ratio(f.perSec, base.perSec, "no hop")
			}
			b.row(fmt.Sprintf("%s, %d clients", p.what, clients), text, "", "")
		}
	}
	return nil
}

package main

import (
	"fmt"
	"time"
)

// ratio says how a figure relates to another one, when that was measured in this run.
func ratio(a, of float64, what string) string {
	if of == 0 {
		return ""
	}
	return fmt.Sprintf("  = %.2f × %s", a/of, what)
}

// calls measures durable actor calls through the gateway's API and through the
// component's own sidecar: 1, 16 and 128 clients, 1,000 actors.
func (b *bench) calls() error {
	m, err := b.mesh("calls")
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.startComponent(); err != nil {
		return err
	}
	for _, p := range []struct {
		name, addr, prefix string
		sketch1, sketch    float64
		p50, p50aim        string
		many, manyAim      string
	}{
		{"gateway's API", m.api, prefix, float64(b.sketchAPI1.p50), b.sketchAPI.perSec, "p50 <= 1.5 x floor", "1.3", ">= 80 % of the sketch, >= 9500/s, p99 <= 35 ms", "12000/s"},
		{"own sidecar", m.side, "", float64(b.sketchSide1.p50), b.sketchSide.perSec, "p50 <= 2 x floor", "1.6", ">= 80 % of the sketch, >= 7000/s", "past 10400/s"},
	} {
		do := call(p.prefix, 1000, "echo")
		if _, err := load("tcp", p.addr, 16, 0, time.Minute, 2000, do); err != nil { // every actor is active
			return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
		}
		for _, clients := range []int{1, 16, 128} {
			cpu := meter([]string{"gateway", "sidecar and app"}, m.gateway, m.comp)
			f, err := metered(cpu, p.addr, clients, b.length(time.Second), b.length(10*time.Second), do)
			if err != nil {
				return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
			}
			what := fmt.Sprintf("call through the %s, %d clients", p.name, clients)
			switch clients {
			case 1:
				b.row(what, f.String()+ratio(float64(f.p50), float64(b.floorP50), "floor"), p.p50, p.p50aim)
			case 128:
				b.row(what, f.String()+ratio(f.perSec, p.sketch, "sketch"), p.many, p.manyAim)
			default:
				b.row(what, f.String(), "", "")
			}
			b.row("", cpu.String(), "", "")
		}
	}
	b.row("resident: gateway, sidecar", mega(m.gateway.resident())+", "+mega(m.comp.resident()), "", "")
	return nil
}

// state measures a method that reads and writes one key of its actor's state.
func (b *bench) state() error {
	m, err := b.mesh("state")
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.startComponent(); err != nil {
		return err
	}
	for _, clients := range []int{1, 16, 128} {
		cpu := meter([]string{"gateway", "sidecar and app"}, m.gateway, m.comp)
		f, err := metered(cpu, m.api, clients, b.length(time.Second), b.length(10*time.Second), call(prefix, 1000, "touch"))
		if err != nil {
			return fmt.Errorf("%w\n%s%s", err, m.gateway.tail(), m.comp.tail())
		}
		reach, aim := "", ""
		if clients == 16 {
			reach, aim = ">= 4000/s", "6000/s"
		}
		b.row(fmt.Sprintf("method that reads and writes one state key, %d clients", clients), f.String(), reach, aim)
		b.row("", cpu.String(), "", "")
	}
	return nil
}

func mega(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

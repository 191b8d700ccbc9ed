package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch {
		case args[0] == "app":
			return runApp()
		case args[0] == "sketch-gateway" && len(args) == 4:
			return runSketchGateway(args[1], args[2], args[3])
		case args[0] == "sketch-kafka" && len(args) == 5:
			return runSketchOnKafka(args[1], args[2], args[3], args[4])
		case args[0] == "sketch-sidecar" && len(args) == 4:
			return runSketchSidecar(args[1], args[2], args[3])
		}
	}
	return measure(args)
}

// A bench is one run and what it has found so far.
type bench struct {
	ctx   context.Context
	dir   string // temporary files, state folders and outputs of processes
	self  string // this program
	kar   string // the kar binary
	other string // another one, to compare with
	scale float64
	// figures of the part mesh to take, all when empty
	figures map[string]bool

	floorP50                time.Duration
	sketchAPI1, sketchSide1 figure // one client
	sketchAPI, sketchSide   figure // 128 clients
}

// parts in the order in which they run; each leaves nothing running.
func (b *bench) parts() []part {
	return []part{
		{"floor", "the parts of a call alone", b.floor},
		{"sketch", "a gateway without rules", b.sketch},
		{"size", "binary, start, idle memory", b.size},
		{"calls", "durable actor calls", b.calls},
		{"state", "a method that reads and writes one state key", b.state},
		{"reminders", "a million reminders", b.reminders},
		{"history", "a million requests of history", b.history},
		{"mesh", "gateways on Kafka and Redis", b.shared},
		{"against", "another kar beside this one (only when named)", b.againstOther},
		{"rivals", "Restate beside KAR (only when named)", b.rivals},
	}
}

type part struct {
	name, about string
	run         func() error
}

func measure(args []string) error {
	b := &bench{}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := fs.String("run", "", "parts to run, separated by commas (default: all but against and rivals)")
	fs.Float64Var(&b.scale, "scale", 1, "factor on amounts and durations")
	fs.StringVar(&b.kar, "kar", "", "kar binary to measure (default: build ./cli/kar)")
	fs.StringVar(&b.other, "other", "", "of the part against: the kar binary to compare with")
	figures := fs.String("figures", "", "of the part mesh only these: calls, gateways, hosts, kills, joins, recovery")
	dir := fs.String("dir", "", "folder for the state of the processes, on the disk to be measured (default: a temporary one)")
	keep := fs.Bool("keep", false, "keep the folder")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *figures != "" {
		b.figures = map[string]bool{}
		for _, n := range strings.Split(*figures, ",") {
			b.figures[n] = true
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.ctx = ctx
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, "kar-bench-"); err != nil {
		return err
	}
	if *keep {
		fmt.Println("folder:", b.dir)
	} else {
		defer os.RemoveAll(b.dir)
	}
	fmt.Printf("%s, %s/%s, %d CPUs\n", time.Now().UTC().Format(time.RFC3339), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	wanted := map[string]bool{}
	for _, n := range strings.Split(*names, ",") {
		wanted[n] = true
	}
	var failed []error
	for _, p := range b.parts() {
		if !wanted[p.name] && (*names != "" || p.name == "against" || p.name == "rivals") {
			continue
		}
		fmt.Printf("\n%s: %s\n", p.name, p.about)
		t0 := time.Now()
		if err := p.run(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
			fmt.Println("  failed:", err)
		}
		fmt.Printf("  (%.0f s)\n", time.Since(t0).Seconds())
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// length scales a duration, to no less than 200 ms.
func (b *bench) length(d time.Duration) time.Duration {
	return max(200*time.Millisecond, time.Duration(float64(d)*b.scale))
}

// count scales an amount, to no less than 100.
func (b *bench) count(n int) int { return max(100, int(float64(n)*b.scale)) }

// row prints one line of the table: what was measured, the figure, and what
// was to be reached and aimed at.
func (b *bench) row(what, figure, reach, aim string) {
	fmt.Printf("  %-64s %s", what, figure)
	if reach != "" {
		fmt.Printf("   [reach: %s", reach)
		if aim != "" {
			fmt.Printf("; aim: %s", aim)
		}
		fmt.Print("]")
	}
	fmt.Println()
}

// folder makes a new folder for one part.
func (b *bench) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

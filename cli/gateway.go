package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/cli/background"
	"github.com/karmesh/kar/gateway/doors"
	"github.com/karmesh/kar/runtime"
)

// stopLimit is how long `kar gateway stop` waits for the end.
const stopLimit = 30 * time.Second

func (p *program) gatewayCommand() *cobra.Command {
	var inBackground bool
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run a gateway here, or look after the one in the background",
		Long: `Run a gateway in the foreground, on the state folder of this user: components
and commands of this user find it by themselves, others at --listen.

With --kafka-brokers and --redis-host it is one of any number of gateways of a
shared mesh; components and commands are told its address (KAR_GATEWAY). See
docs/operations.md.

With a secret of the mesh (KAR_MESH_SECRET) everybody who comes over TCP is
asked for a token; see kar token and docs/security.md. Without one --listen may
only be an address of this machine, unless --insecure is given.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return needsSubcommand(cmd, args)
			}
			if inBackground {
				background.Detach()
			}
			p.carriesWork()
			c, err := p.loadConfig(cmd, commonSettings(), gatewaySettings(), backendSettings(), withoutEffect())
			if err == nil {
				err = p.gateway(cmd.Context(), cmd, c, inBackground)
			}
			if inBackground && err != nil {
				background.TellReady(err)
			}
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), gatewaySettings(), backendSettings(), withoutEffect())
	cmd.Flags().BoolVar(&inBackground, "background", false, "as `kar run` starts it")
	_ = cmd.Flags().MarkHidden("background")
	cmd.AddCommand(p.gatewayStatus(), p.gatewayLogs(), p.gatewayStop())
	return cmd
}

// gateway runs a node with what the settings say.
func (p *program) gateway(ctx context.Context, cmd *cobra.Command, c *config, inBackground bool) error {
	place, err := p.place(c)
	if err != nil {
		return err
	}
	if !c.given("verbose") {
		c.v.Set("verbose", "info")
	}
	verbose, err := parseVerbosity(c.text("verbose"))
	if err != nil {
		return err
	}
	var shared *sharedConfig
	// In the background a Redis alone is somebody else's: see namesMesh.
	if !inBackground || len(c.list("kafka-brokers")) > 0 {
		if shared, err = p.sharedConfig(c); err != nil {
			return err
		}
	}
	partitions := c.integer("partitions")
	if partitions == 0 {
		if partitions = 1; shared != nil {
			partitions = 64
		}
	}
	memory := p.limitMemory()
	cfg := nodeConfig{
		Place: place, Version: p.version, Background: inBackground, Partitions: partitions,
		Listen: c.text("listen"), BodyLimit: c.integer("body-limit"), Lease: c.span("lease"),
		IDWindow: c.span("id-window"), ResultRetention: c.span("result-retention"), MaxAttempts: c.integer("max-attempts"), TrimAt: int64(c.integer("trim-at")),
		TLSCert: c.text("tls-cert"), TLSKey: c.text("tls-key"), Memory: memory,
	}
	if shared != nil && cfg.TrimAt == 0 {
		cfg.TrimAt = 2 << 20 // a gateway that takes over reads the logs of many partitions
	}
	cfg.Shared = shared
	switch {
	case inBackground:
		cfg.IdleStop = c.span("idle-stop")
		if shared != nil && cfg.Listen == "" {
			cfg.Listen = "127.0.0.1:0" // for other gateways
		}
	case !c.given("listen"):
		cfg.Listen = "127.0.0.1:8090"
	}
	if shared != nil && !inBackground { // components and commands are told its address
		place, cfg.Place = background.Place{}, background.Place{}
	}
	if cfg.Keys, err = doors.New(doors.Config{Secret: c.text("mesh-secret"), Insecure: c.boolean("insecure")}); err != nil {
		return err
	}
	if c.err != nil {
		return c.err
	}
	if cfg.Listen != "" {
		if err := cfg.Keys.MayListen(cfg.Listen); err != nil {
			return err
		}
	}
	if cfg.BodyLimit <= 0 || cfg.Lease <= 0 || partitions < 1 || partitions > 1024 {
		return runtime.Errorf(runtime.CodeBadFlag, "--body-limit and --lease must be positive, --partitions from 1 to 1024")
	}
	if cfg.BodyLimit > maxBody {
		return runtime.Errorf(runtime.CodeBadFlag, "--body-limit is at most %d (192 MiB)", maxBody)
	}
	out := p.errout
	if place.Dir != "" {
		if err := place.Prepare(); err != nil {
			return err
		}
	}
	if inBackground {
		file, err := background.NewRotatingLog(place.Log())
		if err != nil {
			return runtime.Errorf(runtime.CodeReadOnly, "the log file cannot be written: %v", err)
		}
		defer file.Close()
		queue := newLogQueue(file)
		defer queue.flush(lastWords)
		out = queue
	}
	cfg.Logger = newLogger(out, verbose.level())
	return p.runNode(ctx, cfg)
}

// place is where the gateway of this user, or of --state-dir, lives.
func (p *program) place(c *config) (place background.Place, err error) {
	if dir := c.text("state-dir"); dir != "" {
		place, err = background.At(dir, p.getenv)
	} else {
		place, err = background.Locate(p.getenv)
	}
	if err == nil && c.text("socket") != "" {
		place.Socket, err = filepath.Abs(c.text("socket"))
	}
	return place, err
}

// placeSettings are the settings of the commands below.
func placeSettings() []setting {
	some := legacySettings()
	for _, s := range gatewaySettings() {
		if s.name == "state-dir" || s.name == "socket" {
			some = append(some, s)
		}
	}
	return some
}

// findPlace is place for a command that takes no other setting; with Kafka and
// Redis it is that of the mesh that a component with the same settings is in.
func (p *program) findPlace(cmd *cobra.Command) (background.Place, error) {
	c, err := p.loadConfig(cmd, commonSettings(), placeSettings())
	if err != nil {
		return background.Place{}, err
	}
	place, err := p.place(c)
	if err != nil {
		return place, err
	}
	shared, err := namesMesh(c)
	if err != nil || !shared {
		return place, err
	}
	if c.text("app") == "" && c.text("mesh") == "" {
		return place, runtime.Errorf(runtime.CodeBadFlag, "Kafka and Redis are named, but not which mesh: give --app NAME, or --mesh NAME (to look after the gateway of local mode, unset KAFKA_BROKERS)")
	}
	return meshPlace(c, place, p.getenv)
}

func (p *program) gatewayStatus() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status [-o json]",
		Short: "Tell whether this user's gateway runs, exit code 4 when not",
		Long: `Tell whether this user's gateway runs, exit code 4 when not. Given a Kafka and a
Redis it is the one that components with the same settings and --app (or --mesh)
use; that is so for logs and stop as well. Of a gateway elsewhere ask its
address: GET /kar/status.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := p.findPlace(cmd)
			if err != nil {
				return err
			}
			socket, s, holder, ok := place.Await(cmd.Context())
			if !ok {
				p.code, s.PID = exitNoGateway, holder
			}
			if output == "json" {
				return p.printJSON(struct {
					Running bool   `json:"running"`
					Socket  string `json:"socket,omitempty"`
					background.Status
				}{ok, socket, s})
			}
			switch {
			case !ok && holder != 0:
				_, err := fmt.Fprintf(p.out, "Process %d holds %s and does not answer on its socket %s; kar gateway stop ends it.\n", holder, place.Data(), place.Socket)
				return err
			case !ok:
				_, err := fmt.Fprintf(p.out, "No gateway runs on %s.\n", place.Dir)
				return err
			}
			work := "with work or clients"
			if s.Idle {
				work = "idle"
			}
			_, err = fmt.Fprintf(p.out, "pid %d, version %s, since %s, %s\ncomponents %d, clients %d\nstate folder %s\nlistens on %s\n",
				s.PID, s.Version, s.Started, work, s.Hosts, s.Clients, s.StateDir, strings.Join(s.Listen, ", "))
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), placeSettings())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for JSON alone")
	return cmd
}

func (p *program) gatewayLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [-f]",
		Short: "Print the log of the background gateway",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := p.findPlace(cmd)
			if err != nil {
				return err
			}
			return p.printLog(cmd.Context(), place.Log(), follow)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), placeSettings())
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the log grows")
	return cmd
}

func (p *program) printLog(ctx context.Context, path string, follow bool) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) && !follow {
		_, err := fmt.Fprintf(p.errout, "There is no log yet at %s.\n", path)
		return err
	}
	if err != nil {
		return runtime.Errorf(runtime.CodeNotFound, "the log cannot be read: %v", err)
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := io.Copy(p.out, f); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if replaced(f, path) {
			if next, err := os.Open(path); err == nil {
				_, _ = io.Copy(p.out, f)
				_ = f.Close()
				f = next
			}
		}
	}
}

// replaced tells that the log was put aside and a new one begun.
func replaced(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && !os.SameFile(a, b)
}

func (p *program) gatewayStop() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop this user's gateway and wait until it is gone",
		Long: `Stop this user's gateway and wait until it is gone. Nothing is lost: what was
accepted is on disk and goes on when a gateway runs again, which the next
command, or a component that is still running, brings about.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := p.findPlace(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), stopLimit)
			defer cancel()
			stopped, err := place.Stop(ctx)
			if err != nil {
				return err
			}
			if !stopped {
				_, err := fmt.Fprintf(p.errout, "No gateway runs on %s.\n", place.Dir)
				return err
			}
			_, err = fmt.Fprintln(p.out, "The gateway has stopped.")
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), placeSettings())
	return cmd
}

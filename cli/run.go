package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/cli/guard"
	"github.com/karmesh/kar/runtime"
)

func (p *program) runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run --app APP [--service NAME] [--actors T1,T2] [-- COMMAND [ARG...]]",
		Short: "Run a component of an application",
		Long: `Run COMMAND as a component of an application. It finds the API at
http://127.0.0.1:$KAR_RUNTIME_PORT/kar/v1 and listens on 127.0.0.1:$KAR_APP_PORT.

Without COMMAND the component is somebody else's process; then nothing can prove
that it has stopped, and docs/configuration.md says what that means.

SIGINT, SIGTERM and SIGHUP let running work end first (--grace), then go on to
COMMAND; a second one kills it. The exit code is COMMAND's, 128+n when signal n
ended it, 127 when there is no such program, 126 when it cannot be executed.`,
		Example: `  kar run --app hello --service greeter -- node server.js
  kar run -app dp -actors Cafe,Table,Fork,Philosopher -- node philosophers.js`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.carriesWork()
			c, err := p.loadConfig(cmd, commonSettings(), limitSettings(), runSettings(), legacySettings())
			if err != nil {
				return err
			}
			s, err := runSpecOf(c, args)
			if err != nil {
				return err
			}
			return p.run(cmd.Context(), c, s)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), limitSettings(), runSettings(), legacySettings())
	setFlagsFirst(cmd)
	return cmd
}

// A runSpec is what `kar run` was told.
type runSpec struct {
	app, service string
	actors       []string
	command      []string

	appPort, runtimePort int
	portAsked            bool
	allInterfaces        bool
	h2c, cancel          bool
	grace                time.Duration
	idle                 time.Duration
	requestLimit         time.Duration // of -request_retry_limit
	verbose              verbosity
}

func runSpecOf(c *config, command []string) (runSpec, error) {
	s := runSpec{
		app: c.app(), service: c.text("service"), actors: c.list("actors"), command: command,
		appPort: c.port("app-port"), runtimePort: c.port("runtime-port"),
		portAsked:     c.given("app-port"),
		allInterfaces: c.boolean("kubernetes-mode"),
		h2c:           c.boolean("h2c"), cancel: c.boolean("cancel"),
		grace: c.span("grace"), idle: c.span("actor-collector-interval"),
		requestLimit: c.span("request-retry-limit"),
	}
	limitHeader(c) // for the values' sake
	verbose, err := parseVerbosity(c.text("verbose"))
	switch {
	case c.err != nil:
		return s, c.err
	case err != nil:
		return s, err
	case s.grace < 0:
		return s, runtime.Errorf(runtime.CodeBadFlag, "--grace is %s, but must not be negative", s.grace)
	case s.idle < 0:
		return s, runtime.Errorf(runtime.CodeBadFlag, "--actor-collector-interval is %s, but must not be negative", s.idle)
	}
	s.verbose = verbose
	return s, nil
}

// run is the life of a component: prepare, start, serve, stop.
func (p *program) run(ctx context.Context, c *config, s runSpec) error {
	if len(s.command) > 0 {
		// Before anything else is started.
		if _, code, err := guard.Check(s.command[0]); err != nil {
			p.code = code
			return err
		}
	}
	p.relaxCollector()
	side, err := p.newSidecar(ctx, c, s)
	if err != nil {
		return err
	}
	defer side.close()
	if err := side.start(); err != nil {
		return err
	}
	code, err := side.serve(ctx)
	p.code = code
	if err != nil && code == 0 {
		p.code = exitCodeOf(err)
	}
	return err
}

// offers tells whether calls can come to the component.
func (s runSpec) offers() bool { return s.service != "" || len(s.actors) > 0 }

// describe names the component for people: its service and actor types.
func (s runSpec) describe() string {
	var parts []string
	if s.service != "" {
		parts = append(parts, "service "+s.service)
	}
	if len(s.actors) > 0 {
		parts = append(parts, "actors "+strings.Join(s.actors, ","))
	}
	if len(parts) == 0 {
		return "no service and no actors"
	}
	return strings.Join(parts, ", ")
}

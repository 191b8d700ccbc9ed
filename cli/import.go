package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/redis"
)

// importFlags are what `kar import-1x` is asked; they are not settings.
type importFlags struct {
	dryRun, stopped, overwrite, guess, ignoreUnknown bool
	types, submaps                                   []string
	statePrefix, reminderPrefix, output              string
}

func (p *program) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import-1x --app APP --redis-host HOST [--dry-run] [-o json]",
		Short: "Take over the state and reminders of an application of KAR 1.x",
		Long: `Read the actors' state and the reminders that KAR 1.x keeps for an application
in Redis, and write them through a gateway. Redis is the one of REDIS_HOST and
its companions; the gateway is found as by every other command.

End all components of KAR 1.x first: what they change later is not taken over.
The command refuses while clients are connected to that Redis that may be theirs
(--stopped says that they are not), and fails when the data changed meanwhile.
It also refuses when the application has other state in the target already
(--overwrite replaces it), and to guess: KAR 1.x does not escape names, so a key
with several _ may be read in two ways. --types and --submaps name what has a _.

It may be run again, also after it was interrupted: what is there already is
left alone. Subscriptions are made anew by the application. Nothing in the
application's old keys is changed; which reminders were taken over is noted in
the old Redis under kar:import-1x:APP.`,
		Example: `  kar import-1x --app dp --redis-host old-redis --dry-run
  kar import-1x --app dp --redis-host old-redis --types Bank_Account,Teller`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.loadConfig(cmd, commonSettings(), legacySettings())
			if err != nil {
				return err
			}
			if f.output != "" && f.output != "json" {
				return runtime.Errorf(runtime.CodeBadFlag, "-o is %q, but must be json", f.output)
			}
			return p.importOld(cmd.Context(), c, f)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "check and count, change nothing")
	flags.BoolVar(&f.stopped, "stopped", false, "KAR 1.x was ended: other clients of this Redis are not its sidecars")
	flags.BoolVar(&f.overwrite, "overwrite", false, "replace state and reminders that the application has in the target")
	flags.BoolVar(&f.guess, "guess", false, "split names that are of two minds at their first _")
	flags.BoolVar(&f.ignoreUnknown, "ignore-unknown", false, "leave out keys that are not understood")
	flags.StringSliceVar(&f.types, "types", nil, "all actor types, when one has a _ in its name or an id has")
	flags.StringSliceVar(&f.submaps, "submaps", nil, "names of submaps that have a _")
	flags.StringVar(&f.statePrefix, "state-prefix", "", "what state keys have behind kar_APP_ (default main_state_)")
	flags.StringVar(&f.reminderPrefix, "reminder-prefix", "", "what reminder keys have behind kar_APP_ (default main_bindings_reminders_)")
	flags.StringVarP(&f.output, "output", "o", "", "json for JSON alone")
	return cmd
}

func (p *program) importOld(ctx context.Context, c *config, f importFlags) error {
	source, err := importSource(c)
	if err != nil {
		return err
	}
	app := c.app()
	if c.err != nil {
		return c.err
	}
	old, err := redis.OpenLegacy(source, app, redis.LegacyNames{
		Types: f.types, Submaps: f.submaps, StatePrefix: f.statePrefix, ReminderPrefix: f.reminderPrefix,
	})
	if err != nil {
		return err
	}
	defer old.Close()
	if err := old.Check(ctx); err != nil {
		return err
	}
	if !f.stopped {
		if err := wantStopped(ctx, old); err != nil {
			return err
		}
	}
	cl, err := p.newClient(ctx, c)
	if err != nil {
		return err
	}
	m := &importer{old: old, to: cl, flags: f, report: importReport{App: app, DryRun: f.dryRun}, target: c.text("gateway")}
	err = m.run(ctx)
	if err == nil || m.wrote {
		err = firstError(p.printImport(&m.report, f.output), err)
	}
	return err
}

func firstError(a, b error) error {
	if b != nil {
		return b
	}
	return a
}

// importSource are the settings of KAR 1.x for Redis.
func importSource(c *config) (redis.Config, error) {
	cfg, err := redisConfig(c)
	if err == nil && cfg.Host == "" && len(cfg.Sentinels) == 0 && len(cfg.Cluster) == 0 {
		err = runtime.Errorf(runtime.CodeBadFlag, "the Redis of KAR 1.x is missing: give --redis-host or set REDIS_HOST")
	}
	return cfg, err
}

// wantStopped refuses while sidecars may be connected: each keeps a connection
// for as long as it lives.
func wantStopped(ctx context.Context, old *redis.Legacy) error {
	clients, err := old.Connections(ctx)
	if err != nil {
		return runtime.Errorf(runtime.CodeInUse, "whether KAR 1.x still runs cannot be told (%v); end its components and give --stopped", err)
	}
	if len(clients) == 0 {
		return nil
	}
	slices.Sort(clients)
	return runtime.Errorf(runtime.CodeInUse,
		"%d clients of this Redis may be sidecars of KAR 1.x (%s): end them and try again; when they are something else give --stopped",
		len(clients), strings.Join(clients[:min(len(clients), 5)], ", "))
}

// An importReport is what was found and done; -o json prints it.
type importReport struct {
	App       string `json:"app"`
	DryRun    bool   `json:"dryRun"`
	Actors    int    `json:"actors"`
	Keys      int    `json:"keys"`
	Reminders int    `json:"reminders"`
	// Of these, what the target had already.
	ActorsThere    int `json:"actorsAlreadyThere"`
	RemindersThere int `json:"remindersAlreadyThere"`
	// Not taken over.
	Subscriptions int      `json:"subscriptions"`
	Placements    int      `json:"placements"`
	Unknown       []string `json:"unknown"`
}

func (p *program) printImport(r *importReport, output string) error {
	if output == "json" {
		if r.Unknown == nil {
			r.Unknown = []string{}
		}
		return p.printJSON(r)
	}
	verb := "Imported"
	if r.DryRun {
		verb = "Nothing was changed. Would import"
	}
	fmt.Fprintf(p.out, "%s %d actors with %d keys and %d reminders of app %q", verb, r.Actors, r.Keys, r.Reminders, r.App)
	if r.ActorsThere+r.RemindersThere > 0 {
		fmt.Fprintf(p.out, "; %d actors and %d reminders of these were there already", r.ActorsThere, r.RemindersThere)
	}
	fmt.Fprintln(p.out, ".")
	if r.Subscriptions > 0 {
		fmt.Fprintf(p.out, "%d subscriptions are left for the application to make anew.\n", r.Subscriptions)
	}
	if len(r.Unknown) > 0 {
		fmt.Fprintf(p.out, "%d keys were left out, among them %s.\n", len(r.Unknown), strings.Join(some(r.Unknown), ", "))
	}
	return nil
}

// some of many, for a message.
func some(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[:min(len(list), 5)]
}

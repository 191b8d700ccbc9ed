package cli

import (
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

func (p *program) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Services that are reached by URL: add, list, remove",
		Long: `A service that nobody launches with kar run can be called when its URL is
registered. Its attempts are over when they answer or when their time limit has
passed; only then does a retry start.`,
		Args: cobra.ArbitraryArgs,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(p.serviceAdd(), p.serviceList(), p.serviceRemove())
	return cmd
}

func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return runtime.Errorf(runtime.CodeBadFlag, "there is no command %q of kar %s", args[0], commandName(cmd))
	}
	return runtime.Errorf(runtime.CodeBadFlag, "kar %s needs a command", commandName(cmd))
}

func (p *program) serviceAdd() *cobra.Command {
	var timeout string
	var proxied bool
	cmd := &cobra.Command{
		Use:     "add --app APP [--timeout 30s] NAME URL",
		Short:   "Register a service, or replace its URL",
		Example: `  kar service add --app shop --timeout 30s tax https://tax.example.com/v1`,
		Args:    wantArgs(2, 2, "NAME URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := p.managing(cmd)
			if err != nil {
				return err
			}
			body := map[string]any{"url": args[1], "timeout": timeout, "proxied": proxied}
			var got serviceRow
			if err := cl.manage(cmd.Context(), http.MethodPut, cl.path("services", args[0]), body, &got); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "The service %q of app %q is reached at %s.\n", args[0], cl.app, args[1])
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	cmd.Flags().StringVar(&timeout, "timeout", "30s", "how long one attempt may take; behind a proxy no shorter than the proxy's own limit")
	cmd.Flags().BoolVar(&proxied, "proxied", false, "there is a proxy before it, whose 502, 503 and 504 are no answers (always so in .svc.… and .codeengine.appdomain.cloud)")
	return cmd
}

type serviceRow struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Timeout string `json:"timeout"`
}

func (p *program) serviceList() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list --app APP [-o json]",
		Short: "List the services of an app that are reached by URL",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := p.managing(cmd)
			if err != nil {
				return err
			}
			got := struct{ Services []serviceRow }{Services: []serviceRow{}}
			if err := cl.manage(cmd.Context(), http.MethodGet, cl.path("services"), nil, &got); err != nil {
				return err
			}
			if output == "json" {
				return p.printJSON(got.Services)
			}
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SERVICE\tURL\tTIMEOUT")
			for _, s := range got.Services {
				fmt.Fprintf(w, "%s\t%s\t%s\n", plain(s.Name), plain(s.URL), s.Timeout)
			}
			return w.Flush()
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for JSON alone")
	return cmd
}

func (p *program) serviceRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove --app APP NAME",
		Short: "Remove a service that is reached by URL",
		Args:  wantArgs(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := p.managing(cmd)
			if err != nil {
				return err
			}
			if err := cl.manage(cmd.Context(), http.MethodDelete, cl.path("services", args[0]), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "The service %q of app %q was removed.\n", args[0], cl.app)
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	return cmd
}

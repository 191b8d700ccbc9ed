package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

func (p *program) cancelCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "cancel --app APP (ID | --all)",
		Short: "Withdraw a request, or all that have not started",
		Long: `Withdraw a request that has not started, or whose next attempt has not. One that
is running goes on; whoever waits for it is answered.`,
		Args: wantArgs(0, 1, "the ID of a request, or --all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return runtime.Errorf(runtime.CodeBadFlag, "give either the ID of a request or --all")
			}
			c, err := p.loadConfig(cmd, commonSettings(), legacySettings())
			if err != nil {
				return err
			}
			cl, err := p.newClient(cmd.Context(), c)
			if err != nil {
				return err
			}
			if all {
				var got struct{ Cancelled int }
				if err := cl.manage(cmd.Context(), http.MethodDelete, cl.path("requests"), nil, &got); err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.out, "%s withdrawn.\n", requests(got.Cancelled))
				return err
			}
			var got struct{ Result string }
			if err := cl.manage(cmd.Context(), http.MethodDelete, cl.path("requests", args[0]), nil, &got); err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, got.Result)
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	cmd.Flags().BoolVar(&all, "all", false, "every request of the app that has not started")
	return cmd
}

// requests counts in words that fit.
func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) drainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain --app APP",
		Short: "Withdraw what has not started and wait for the rest",
		Long: `Withdraw the requests of an application that have not started, and wait until
the others have ended. State, reminders and subscriptions stay.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := p.managing(cmd)
			if err != nil {
				return err
			}
			var got struct{ Withdrawn int }
			if err := cl.manage(cmd.Context(), http.MethodPost, cl.path("drain"), nil, &got); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "The app %q was drained: %s withdrawn, all others have ended.\n", cl.app, requests(got.Withdrawn))
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	return cmd
}

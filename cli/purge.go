package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge --app APP",
		Short: "Forget an application: its requests, state, reminders and subscriptions",
		Long: `Forget an application. It may be done while components run: their instances
are deactivated before new work. Topics stay.`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := p.managing(cmd)
			if err != nil {
				return err
			}
			if err := cl.manage(cmd.Context(), http.MethodPost, cl.path("purge"), nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "The app %q was purged.\n", cl.app)
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	return cmd
}

// managing is the client of a command that takes the common settings only.
func (p *program) managing(cmd *cobra.Command) (*client, error) {
	c, err := p.loadConfig(cmd, commonSettings(), legacySettings())
	if err != nil {
		return nil, err
	}
	return p.newClient(cmd.Context(), c)
}

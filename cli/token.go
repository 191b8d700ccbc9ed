package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/gateway/doors"
	"github.com/karmesh/kar/runtime"
)

func (p *program) tokenCommand() *cobra.Command {
	var operator bool
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "token --app APP | --operator [--expires 720h]",
		Short: "Print a token that lets components and commands of an app in",
		Long: `Print the token of an app, made from the secret of the mesh (KAR_MESH_SECRET).
Gateways with the same secret accept it; nothing is stored, and no gateway is
asked. Give it to kar run and to commands as KAR_TOKEN.

The token of an app does not expire unless told to. An operator's token opens
all apps, and what is of the gateway: /metrics, /kar/status.`,
		Example: `  KAR_TOKEN=$(kar token --app hello)
  kar token --operator --expires 8h`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.loadConfig(cmd, commonSettings(), secretSettings())
			if err != nil {
				return err
			}
			app := doors.Operator
			if !operator {
				app = c.app()
			}
			switch {
			case c.err != nil:
				return c.err
			case operator && cmd.Flags().Changed("app"):
				return runtime.Errorf(runtime.CodeBadFlag, "give --app or --operator, not both")
			case !operator && app == doors.Operator: // who makes tokens for names that others choose would give everything away
				return runtime.Errorf(runtime.CodeBadFlag, "%s is no app but stands for all of them: give --operator", app)
			case cmd.Flags().Changed("expires") && expires < time.Second:
				return runtime.Errorf(runtime.CodeBadFlag, "--expires is %s, but must be a second or more", expires)
			}
			keys, err := doors.New(doors.Config{Secret: c.text("mesh-secret")})
			if err != nil {
				return err
			}
			var until time.Time
			if expires > 0 {
				until = time.Now().Add(expires)
			}
			token, err := keys.Token(app, until)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, token)
			return err
		},
	}
	addFlags(cmd.Flags(), commonSettings(), secretSettings())
	cmd.Flags().BoolVar(&operator, "operator", false, "a token for all apps and for the gateway itself")
	cmd.Flags().DurationVar(&expires, "expires", 0, "how long the token is good, 0 for ever")
	return cmd
}

// secretSettings is the one of the gateway's settings that this command takes.
func secretSettings() []setting {
	var some []setting
	for _, s := range gatewaySettings() {
		if s.name == "mesh-secret" {
			some = append(some, s)
		}
	}
	return some
}

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/activator/host"
	"github.com/karmesh/kar/cli/guard"
)

// guardCommand is the second process of `kar run`; users never type it.
func (p *program) guardCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "guard",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			p.code = guard.Main(func(ctx context.Context, g guard.Gateway, boot, reason string) error {
				return host.ReportExit(ctx, g.Address, host.Access{Token: g.Token, CA: g.CA}, boot, reason)
			})
			return nil
		},
	}
}

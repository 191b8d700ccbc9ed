package cli

import (
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
			p.code = guard.Main(host.ReportExit)
			return nil
		},
	}
}

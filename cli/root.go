// Package cli is the kar command: one file per subcommand, the launcher of
// components, and the page that wires all rooms to a gateway (gateway_node.go).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

// Exit codes of every command but run, which passes on its child's.
const (
	exitOK        = 0
	exitFailed    = 1 // an exception in the method, an answer of 400 and above, any other failure
	exitUsage     = 2 // wrong flags, arguments or configuration
	exitLimit     = 3 // a limit ended the wait (408); the work may go on
	exitNoGateway = 4 // no gateway could be reached or started
)

// A program is one run of the kar command: where it reads, writes and looks up
// names. Tests make several.
type program struct {
	version     string
	in          io.Reader
	out, errout io.Writer
	getenv      func(string) string
	// code is set by commands that end with another exit code than their error says.
	code int
	// said is errout of a process that carries the work of others; see carriesWork.
	said *logQueue
	// ballast is never read; see relaxCollector.
	ballast []byte
}

// Main runs the command and returns its exit code.
func Main(version string, args []string) int {
	p := &program{version: versionText(version), in: os.Stdin, out: os.Stdout, errout: os.Stderr, getenv: os.Getenv}
	return p.main(context.Background(), args)
}

func (p *program) main(ctx context.Context, args []string) int {
	root := p.root()
	if len(args) == 0 {
		root.SetOut(p.errout)
		_ = root.Usage()
		return exitUsage
	}
	defer func() {
		if p.said != nil {
			p.said.flush(lastWords)
		}
	}()
	root.SetArgs(normalise(root, args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return p.code
	}
	var silent exitError
	if errors.As(err, &silent) {
		return silent.code
	}
	p.complain(err)
	if p.code != 0 {
		return p.code
	}
	return exitCodeOf(err)
}

// ballastBytes is how much the collector is made to believe in.
const ballastBytes = 32 << 20

// relaxCollector lets a process that carries every call collect garbage less
// often. Its live heap is a few megabytes, and a collection at each doubling of
// that takes a tenth of the time; with memory that is never touched, and so
// costs none, the first collection comes 32 MiB later, while a large heap grows
// no more than with Go's default.
func (p *program) relaxCollector() { p.ballast = make([]byte, ballastBytes) }

// root is the command tree.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kar",
		Short: "Run applications of services and actors that keep their promises",
		Long: `kar runs the components of an application: plain HTTP processes that offer
services and actors. Calls between them are durable, retried when a process
dies, and never repeated when they completed.

Options may be written as --app-port 8080, --app-port=8080 or, as in KAR 1.x,
-app_port 8080. They come before the arguments of a command.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return runtime.Errorf(runtime.CodeBadFlag, "no command was given")
			}
			return runtime.Errorf(runtime.CodeBadFlag, "there is no command %q", args[0])
		},
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.errout)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return runtime.Errorf(runtime.CodeBadFlag, "%v", err)
	})
	root.AddCommand(
		p.runCommand(), p.restCommand(), p.invokeCommand(), p.getCommand(),
		p.cancelCommand(), p.purgeCommand(), p.drainCommand(), p.importCommand(),
		p.serviceCommand(), p.gatewayCommand(), p.tokenCommand(), p.versionCommand(), p.guardCommand(),
	)
	return root
}

// exitError ends the program with a code and without another word.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// complain prints an error with its code and its hint.
func (p *program) complain(err error) {
	var re *runtime.Error
	if !errors.As(err, &re) {
		fmt.Fprintf(p.errout, "kar: %v\n", err)
		return
	}
	fmt.Fprintf(p.errout, "kar: %s: %s\n     %s\n", re.Code, re.Detail, re.Code.Hint())
}

// exitCodeOf maps an error to an exit code.
func exitCodeOf(err error) int {
	var re *runtime.Error
	if !errors.As(err, &re) {
		return exitFailed
	}
	switch re.Code {
	case runtime.CodeBadFlag, runtime.CodeBadConfig, runtime.CodeNoSecret:
		return exitUsage
	case runtime.CodeNoGateway:
		return exitNoGateway
	}
	if re.Code.Status() == 408 {
		return exitLimit
	}
	return exitFailed
}

// exactArgs is cobra.ExactArgs with an error that says what is wanted.
func wantArgs(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || (high >= 0 && len(args) > high) {
			return runtime.Errorf(runtime.CodeBadFlag,
				"kar %s needs %s (options come first), but got %d arguments", commandName(cmd), what, len(args))
		}
		return nil
	}
}

// commandName is the command's path without "kar".
func commandName(cmd *cobra.Command) string {
	name := cmd.Name()
	for c := cmd.Parent(); c != nil && c.HasParent(); c = c.Parent() {
		name = c.Name() + " " + name
	}
	return name
}

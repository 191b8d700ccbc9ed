package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// normalise turns the spellings of KAR 1.x (-app x, -app_port=8080, -mr) into
// the usual ones (--app x, --app-port=8080, --mr). Only the options before the
// first argument of the command are touched: what follows, a JSON value or a
// negative number, is the user's.
func normalise(root *cobra.Command, args []string) []string {
	if len(args) > 0 && strings.HasPrefix(args[0], "__complete") {
		return args
	}
	cmd := root
	out := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if !strings.HasPrefix(arg, "-") || len(arg) == 1 {
			if next := subcommand(cmd, arg); next != nil {
				cmd = next
				out = append(out, arg)
				continue
			}
			if flagsFirst(cmd) {
				return append(out, args[i:]...)
			}
			out = append(out, arg)
			continue
		}
		spelt, flag := spell(cmd, arg)
		out = append(out, spelt)
		takesNext := flag != nil && flag.NoOptDefVal == "" && !strings.Contains(spelt, "=") &&
			(strings.HasPrefix(spelt, "--") || len(spelt) == 2)
		if takesNext && i+1 < len(args) {
			i++
			out = append(out, args[i])
		}
	}
	return out
}

// spell finds the option that arg means; an unknown one is left as it is, for
// the parser to complain about.
func spell(cmd *cobra.Command, arg string) (string, *pflag.Flag) {
	name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	dashes := len(arg) - len(strings.TrimLeft(arg, "-"))
	if dashes > 2 || name == "" {
		return arg, nil
	}
	if dashes == 1 && len(name) == 1 {
		return arg, shorthand(cmd, name)
	}
	long := strings.ReplaceAll(name, "_", "-")
	flag := cmd.Flags().Lookup(long)
	if flag == nil {
		flag = cmd.InheritedFlags().Lookup(long)
	}
	if flag == nil && long == "help" {
		return "--help", nil
	}
	if flag == nil {
		return arg, nil
	}
	if hasValue {
		return "--" + long + "=" + value, flag
	}
	return "--" + long, flag
}

func shorthand(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().ShorthandLookup(name); f != nil {
		return f
	}
	return cmd.InheritedFlags().ShorthandLookup(name)
}

func subcommand(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// flagsFirst marks commands whose options end at their first argument.
func flagsFirst(cmd *cobra.Command) bool { return cmd.Annotations["flags"] == "first" }

// setFlagsFirst makes the parser stop at the first argument too.
func setFlagsFirst(cmd *cobra.Command) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations["flags"] = "first"
	cmd.Flags().SetInterspersed(false)
}

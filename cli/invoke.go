package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

func (p *program) invokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "invoke --app APP ACTOR_TYPE ACTOR_ID METHOD [ARG...]",
		Short: "Call a method of an actor and print its result",
		Long: `Call a method of an actor. Each ARG is JSON; what is not JSON is taken as a
string. The result is printed as JSON on standard output, nothing for a method
without result. An exception is printed on standard error with exit code 1.

Exit codes: 0 the method returned, 1 it failed, 2 wrong usage, 3 a limit ended
the wait, 4 no gateway, 130 after Ctrl-C; the call goes on then.`,
		Example: `  kar invoke --app dp Cafe Cafe+de+Flore seatTable 3 5`,
		Args:    wantArgs(3, -1, "ACTOR_TYPE ACTOR_ID METHOD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.loadConfig(cmd, commonSettings(), limitSettings(), legacySettings())
			if err != nil {
				return err
			}
			return p.invoke(cmd.Context(), c, args)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), limitSettings(), legacySettings())
	setFlagsFirst(cmd)
	return cmd
}

func (p *program) invoke(ctx context.Context, c *config, args []string) error {
	header := callHeader(c)
	header.Set("Content-Type", "application/kar+json")
	cl, err := p.newClient(ctx, c)
	if err != nil {
		return err
	}
	body, err := argumentArray(args[3:])
	if err != nil {
		return err
	}
	method := strings.Split(strings.TrimPrefix(args[2], "/"), "/")
	path := cl.path(append([]string{"actor", args[0], args[1], "call"}, method...)...)
	a, err := p.call(ctx, cl, http.MethodPost, path, header, body)
	if err != nil {
		return err
	}
	if err := a.failure(); err != nil {
		return err
	}
	return p.printResult(a)
}

// argumentArray reads each argument as JSON, else takes it as a string.
func argumentArray(args []string) ([]byte, error) {
	list := make([]json.RawMessage, len(args))
	for i, arg := range args {
		if json.Valid([]byte(arg)) {
			list[i] = json.RawMessage(arg)
			continue
		}
		text, err := json.Marshal(arg)
		if err != nil {
			return nil, err
		}
		list[i] = text
	}
	return json.Marshal(list)
}

// printResult prints what a method returned.
func (p *program) printResult(a *answer) error {
	if a.status == http.StatusNoContent {
		fmt.Fprintln(p.errout, "Method completed normally with void result.")
		return nil
	}
	if a.status != http.StatusOK {
		fmt.Fprintf(p.errout, "HTTP status: %d\n%s\n", a.status, strings.TrimSuffix(string(a.body), "\n"))
		if a.status == http.StatusRequestTimeout {
			return exitError{exitLimit}
		}
		return exitError{exitFailed}
	}
	var result struct {
		Value   json.RawMessage `json:"value"`
		Error   bool            `json:"error"`
		Message string          `json:"message"`
		Stack   string          `json:"stack"`
	}
	if json.Unmarshal(a.body, &result) != nil {
		_, err := p.out.Write(a.body) // not an SDK's answer: as it is
		return err
	}
	if result.Error {
		fmt.Fprintf(p.errout, "Exception raised: %s\n", result.Message)
		if result.Stack != "" {
			fmt.Fprintf(p.errout, "Stacktrace: %s\n", result.Stack)
		}
		return exitError{exitFailed}
	}
	if result.Value == nil {
		result.Value = json.RawMessage("null")
	}
	_, err := fmt.Fprintf(p.out, "%s\n", result.Value)
	return err
}

// decodeJSON reads a complete answer of the gateway.
func decodeJSON(a *answer, out any) error {
	if err := a.failure(); err != nil {
		return err
	}
	if err := json.Unmarshal(a.body, out); err != nil {
		return runtime.Errorf(runtime.CodeBadAnswer, "the gateway's answer is not what this version expects: %v", err)
	}
	return nil
}

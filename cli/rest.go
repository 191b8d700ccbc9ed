package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

func restSettings() []setting {
	return []setting{{name: "content-type", def: "application/json", use: "content type of BODY"}}
}

func (p *program) restCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rest --app APP METHOD SERVICE PATH [BODY]",
		Short: "Send an HTTP request to a service and print the answer",
		Long: `Send an HTTP request to a service. The body of an answer below 300 goes to
standard output; of any other, with its status, to standard error with exit
code 1.`,
		Example: `  kar rest --app hello post greeter helloJson '{"name":"Alice"}'`,
		Args:    wantArgs(3, 4, "METHOD SERVICE PATH [BODY]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.loadConfig(cmd, commonSettings(), limitSettings(), restSettings(), legacySettings())
			if err != nil {
				return err
			}
			return p.rest(cmd.Context(), c, args)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), limitSettings(), restSettings(), legacySettings())
	setFlagsFirst(cmd)
	return cmd
}

func (p *program) rest(ctx context.Context, c *config, args []string) error {
	method := strings.ToUpper(args[0])
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, method) {
		return runtime.Errorf(runtime.CodeBadFlag, "%q is not a method; use get, head, post, put, patch, delete or options", args[0])
	}
	header := callHeader(c)
	var body []byte
	if len(args) == 4 {
		body = []byte(args[3])
		header.Set("Content-Type", c.text("content-type"))
	}
	cl, err := p.newClient(ctx, c)
	if err != nil {
		return err
	}
	plain, query, hasQuery := strings.Cut(strings.TrimPrefix(args[2], "/"), "?")
	path := cl.path("service", args[1], "call") + (&url.URL{Path: "/" + plain}).EscapedPath()
	if hasQuery {
		path += "?" + escapeQuery(query)
	}
	a, err := p.call(ctx, cl, method, path, header, body)
	if err != nil {
		return err
	}
	if err := a.failure(); err != nil {
		return err
	}
	if a.status >= 200 && a.status < 300 {
		_, err := p.out.Write(endLine(a.body))
		return err
	}
	fmt.Fprintf(p.errout, "HTTP status: %d %s\n%s", a.status, http.StatusText(a.status), endLine(a.body))
	if a.status == http.StatusRequestTimeout {
		return exitError{exitLimit}
	}
	return exitError{exitFailed}
}

// endLine ends text with a newline, so that the shell's prompt has its own line.
func endLine(b []byte) []byte {
	if len(b) == 0 || b[len(b)-1] == '\n' {
		return b
	}
	return append(b, '\n')
}

// escapeQuery escapes what may not stand in a request line, and no more: what is escaped
// already stays so.
func escapeQuery(query string) string {
	var b strings.Builder
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/karmesh/kar/runtime"
)

// getFlags are what `kar get` is asked; they are not settings.
type getFlags struct {
	system, typ, id, output string
	resident                bool
}

func (p *program) getCommand() *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get --app APP [-s actors|sidecars] [-t TYPE [-i ID]] [--mr] [-o json]",
		Short: "List components and actors, or show the state of an actor",
		Example: `  kar get --app dp -s sidecars
  kar get --app dp -t Cafe -i Cafe+de+Flore`,
		Args: wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.loadConfig(cmd, commonSettings(), legacySettings())
			if err != nil {
				return err
			}
			return p.get(cmd.Context(), c, f)
		},
	}
	addFlags(cmd.Flags(), commonSettings(), legacySettings())
	flags := cmd.Flags()
	flags.StringVarP(&f.system, "system", "s", "actors", "what to list: actors or sidecars")
	flags.StringVarP(&f.typ, "type", "t", "", "only actors of this type")
	flags.StringVarP(&f.id, "id", "i", "", "show the state of the actor with this id")
	flags.BoolVar(&f.resident, "mr", false, "only actors that are active in a component (memory-resident)")
	flags.StringVarP(&f.output, "output", "o", "", "json for JSON alone")
	return cmd
}

func (p *program) get(ctx context.Context, c *config, f getFlags) error {
	switch {
	case f.output != "" && f.output != "json":
		return runtime.Errorf(runtime.CodeBadFlag, "-o is %q, but must be json", f.output)
	case f.id != "" && f.typ == "":
		return runtime.Errorf(runtime.CodeBadFlag, "-i needs -t TYPE")
	case f.system != "actors" && f.system != "sidecars":
		return runtime.Errorf(runtime.CodeBadFlag, "-s is %q, but must be actors or sidecars", f.system)
	}
	cl, err := p.newClient(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case f.system == "sidecars":
		return p.getSidecars(ctx, cl, f)
	case f.id != "":
		return p.getState(ctx, cl, f)
	}
	return p.getActors(ctx, cl, f)
}

// listedSidecar is a component as the gateway lists it.
type listedSidecar struct {
	Port     int      `json:"port"`
	Actors   []string `json:"actors"`
	Services []string `json:"services"`
}

func (p *program) getSidecars(ctx context.Context, cl *client, f getFlags) error {
	list := map[string]listedSidecar{}
	if err := cl.getJSON(ctx, cl.path("system", "information", "sidecars"), &list); err != nil {
		return err
	}
	if f.output == "json" {
		return p.printJSON(list)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SIDECAR\tSERVICE\tACTORS\tPORT")
	for _, boot := range slices.Sorted(maps.Keys(list)) {
		s := list[boot]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", plain(boot), orDash(s.Services), orDash(s.Actors), s.Port)
	}
	return w.Flush()
}

func orDash(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return plain(strings.Join(names, ","))
}

// plain is a name as it can be shown to a person: one that would do something to
// a terminal, or end a line, is quoted. Programs ask for JSON.
func plain(name string) string {
	if printable(name) {
		return name
	}
	return strconv.Quote(name)
}

func (p *program) getActors(ctx context.Context, cl *client, f getFlags) error {
	path, title := cl.path("instances"), "Listing all known actor instances:"
	if f.resident {
		path, title = cl.path("system", "information", "actors"), "Listing all memory-resident actor instances:"
	}
	list := map[string][]string{}
	if err := cl.getJSON(ctx, path, &list); err != nil {
		return err
	}
	if f.typ != "" {
		ids := list[f.typ]
		list = map[string][]string{f.typ: append([]string{}, ids...)}
		title = "Known instances of actor type " + plain(f.typ) + " are:"
	}
	if f.output == "json" {
		return p.printJSON(list)
	}
	fmt.Fprintln(p.out, title)
	for _, typ := range slices.Sorted(maps.Keys(list)) {
		fmt.Fprintf(p.out, "%s: [\n", plain(typ))
		for _, id := range list[typ] {
			fmt.Fprintf(p.out, "    %s\n", plain(id))
		}
		fmt.Fprintln(p.out, "]")
	}
	return nil
}

func (p *program) getState(ctx context.Context, cl *client, f getFlags) error {
	state := map[string]json.RawMessage{}
	if err := cl.getJSON(ctx, cl.path("actor", f.typ, f.id, "state"), &state); err != nil {
		return err
	}
	if f.output == "json" {
		return p.printJSON(state)
	}
	if len(state) == 0 {
		_, err := fmt.Fprintf(p.out, "Actor %s[%s] has no persisted state\n", plain(f.typ), plain(f.id))
		return err
	}
	fmt.Fprintf(p.out, "Persisted state of actor %s[%s] is:\n", plain(f.typ), plain(f.id))
	return p.printJSON(state)
}

// getJSON reads a route of KAR 1.x, which wants exactly this Accept.
func (c *client) getJSON(ctx context.Context, path string, out any) error {
	a, err := c.do(ctx, http.MethodGet, path, http.Header{"Accept": {"application/json"}}, nil)
	if err != nil {
		return err
	}
	if err := a.failure(); err == nil && a.status >= 300 {
		return runtime.Errorf(runtime.CodeBadAnswer, "the gateway answers %d to GET %s", a.status, path)
	}
	return decodeJSON(a, out)
}

// printJSON prints one indented JSON value and nothing else.
func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

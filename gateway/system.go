package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/karmesh/kar/runtime"
)

// systemHealth is KAR 1.x's liveness probe: it says that HTTP is served, and
// stays 200 while the mesh has an outage, or probes would kill what only waits.
func (x *exchange) systemHealth() error { return x.text(http.StatusOK, "OK") }

// sidecarOnly is for the routes by which an app speaks to its own sidecar.
func (x *exchange) sidecarOnly() error {
	return runtime.Errorf(runtime.CodeNotFound, "only a sidecar serves this path, at 127.0.0.1:$KAR_RUNTIME_PORT/kar/v1")
}

func (x *exchange) debugger() error {
	return runtime.Errorf(runtime.CodeUnsupported, "the debugger of KAR 1.x is not served")
}

// information serves GET /system/information/{component}, as text or, when Accept asks for it, JSON.
func (x *exchange) information() error {
	switch component := x.names[1]; component {
	case "sidecars", "Sidecars":
		return x.sidecars()
	case "actors", "Actors":
		return x.activeActors("")
	case "sidecar_actors":
		if x.caller.Boot == "" {
			return x.sidecarOnly()
		}
		return x.activeActors(x.caller.Boot)
	case "id":
		return x.nodeID()
	default:
		return runtime.Errorf(runtime.CodeBadRequest, "Invalid information query: %s", clip(component, 60))
	}
}

func (x *exchange) nodeID() error {
	if x.caller.Boot == "" {
		return x.sidecarOnly()
	}
	if x.accepts("application/json") {
		return x.json(http.StatusOK, map[string]string{"id": x.caller.Boot})
	}
	return x.text(http.StatusOK, x.caller.Boot)
}

// A sidecarAnswer is one host as KAR 1.x lists it.
type sidecarAnswer struct {
	Port     int      `json:"port"`
	Actors   []string `json:"actors"`
	Services []string `json:"services"`
}

func (x *exchange) sidecars() error {
	hosts := x.mesh.Hosts(x.app())
	if x.accepts("application/json") {
		out := make(map[string]sidecarAnswer, len(hosts))
		for _, h := range hosts {
			a := sidecarAnswer{Port: h.Port, Actors: append([]string{}, h.Actors...), Services: []string{}}
			if h.Service != "" {
				a.Services = append(a.Services, h.Service)
			}
			out[h.Boot] = a
		}
		return x.json(http.StatusOK, out)
	}
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SIDECAR\tNAME\tPORT\tSERVICE\tACTORS")
	for _, h := range hosts {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", h.Boot, dash(h.Name), dash(fmt.Sprint(h.Port)), dash(h.Service), dash(strings.Join(h.Actors, ",")))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return x.text(http.StatusOK, out.String())
}

func dash(s string) string {
	if s == "" || s == "0" {
		return "-"
	}
	return s
}

// activeActors lists the actors that are active on a host, or on any.
func (x *exchange) activeActors(boot string) error {
	list, err := x.mesh.Active(x.r.Context(), x.app(), boot)
	if err != nil {
		return err
	}
	byType := idsByType(list)
	if x.accepts("application/json") {
		return x.json(http.StatusOK, byType)
	}
	types := make([]string, 0, len(byType))
	for t := range byType {
		types = append(types, t)
	}
	slices.Sort(types)
	var out strings.Builder
	for _, t := range types {
		out.WriteString(t + ": [\n")
		for _, id := range byType[t] {
			out.WriteString("    " + id + "\n")
		}
		out.WriteString("]\n")
	}
	return x.text(http.StatusOK, out.String())
}

func idsByType(list []runtime.Actor) map[string][]string {
	out := map[string][]string{}
	for _, a := range list {
		out[a.Type] = append(out[a.Type], a.ID)
	}
	return out
}

package host

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// local answers what only this process can; it tells whether it did.
func (h *Host) local(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/kar/v1/")
	if !ok {
		return false
	}
	switch rest {
	case "system/shutdown":
		h.shutdown(w, r)
	case "system/information/id":
		h.get(w, r, h.cfg.Info.Boot+"\n", map[string]string{"id": h.cfg.Info.Boot})
	case "system/information/sidecar_actors":
		byType := h.activeByType()
		h.get(w, r, actorText(byType), byType)
	case "debug/register":
		fail(w, runtime.Errorf(runtime.CodeUnsupported, "the debugger of KAR 1.x is not served"))
	default:
		return false
	}
	return true
}

func (h *Host) shutdown(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		fail(w, runtime.Errorf(runtime.CodeMethodNotAllowed, "Method Not Allowed"))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("OK")) // the app may be gone already
	h.mu.Lock()
	first := !h.asked
	h.asked = true
	h.mu.Unlock()
	if first && h.cfg.OnShutdown != nil {
		h.cfg.OnShutdown()
	}
}

// get answers with JSON when exactly that is accepted, as KAR 1.x did, else with text.
func (h *Host) get(w http.ResponseWriter, r *http.Request, text string, value any) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, OPTIONS")
		fail(w, runtime.Errorf(runtime.CodeMethodNotAllowed, "Method Not Allowed"))
		return
	}
	if r.Header.Get("Accept") != "application/json" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text)) // the app may be gone already
		return
	}
	b, err := json.Marshal(value)
	if err != nil {
		fail(w, runtime.Errorf(runtime.CodeInternal, "%s", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the app may be gone already
}

func (h *Host) activeByType() map[string][]string {
	out := map[string][]string{}
	for _, a := range h.active() {
		out[a.Type] = append(out[a.Type], a.ID)
	}
	for _, ids := range out {
		slices.Sort(ids)
	}
	return out
}

func actorText(byType map[string][]string) string {
	types := make([]string, 0, len(byType))
	for t := range byType {
		types = append(types, t)
	}
	slices.Sort(types)
	var b strings.Builder
	for _, t := range types {
		fmt.Fprintf(&b, "%s: [\n", t)
		for _, id := range byType[t] {
			fmt.Fprintf(&b, "    %s\n", id)
		}
		b.WriteString("]\n")
	}
	return b.String()
}

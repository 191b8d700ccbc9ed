package gateway

import (
	"net/http"
	"net/url"
	"time"

	"github.com/karmesh/kar/runtime"
	"github.com/karmesh/kar/runtime/engine"
)

// A missingAnswer is a component that requests wait for.
type missingAnswer struct {
	Component string    `json:"component"`
	Kind      string    `json:"kind"` // actor or service
	Waiting   int       `json:"waiting"`
	Since     time.Time `json:"since"`
}

// missing serves GET /missing.
func (x *exchange) missing() error {
	out := []missingAnswer{}
	for _, m := range x.mesh.Missing(x.app()) {
		kind := "service"
		if m.Actor {
			kind = "actor"
		}
		out = append(out, missingAnswer{m.Component, kind, m.Waiting, m.Since.UTC()})
	}
	return x.json(http.StatusOK, struct {
		Missing []missingAnswer `json:"missing"`
	}{out})
}

// instances serves GET /instances?type=T: actors that are active or have state.
func (x *exchange) instances() error {
	list, err := x.mesh.Known(x.r.Context(), x.app(), x.query("type"))
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, idsByType(list))
}

// purge serves POST /purge.
func (x *exchange) purge() error {
	if err := x.mesh.Purge(x.r.Context(), x.app()); err != nil {
		return err
	}
	return x.empty(http.StatusNoContent)
}

// drain serves POST /drain; it answers when everything that had started has ended.
func (x *exchange) drain() error {
	n, err := x.mesh.Drain(x.r.Context(), x.app())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		Withdrawn int `json:"withdrawn"`
	}{n})
}

// defaultServiceTimeout is how long one attempt on a url service may take unless told otherwise.
const defaultServiceTimeout = 30 * time.Second

// A serviceAnswer is a service that is reached by URL.
type serviceAnswer struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Timeout string `json:"timeout"`
	Proxied bool   `json:"proxied,omitempty"`
}

// listServices serves GET /services.
func (x *exchange) listServices() error {
	list, _, err := x.mesh.Services(x.r.Context(), x.app())
	if err != nil {
		return err
	}
	out := make([]serviceAnswer, len(list))
	for i, s := range list {
		out[i] = serviceAnswer{s.Name, s.URL, s.Timeout.String(), s.Proxied}
	}
	return x.json(http.StatusOK, struct {
		Services []serviceAnswer `json:"services"`
	}{out})
}

// addService serves PUT /services/{service}: 201 when it is new, else 200.
func (x *exchange) addService() error {
	var ask struct {
		URL     string `json:"url"`
		Timeout string `json:"timeout"`
		Proxied bool   `json:"proxied"`
	}
	if err := x.decode(&ask, runtime.CodeBadRequest, "Request body was not a service"); err != nil {
		return err
	}
	u, err := url.Parse(ask.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return runtime.Errorf(runtime.CodeBadRequest, "url must be an http or https address without query, not %q", clip(ask.URL, 100))
	}
	timeout := defaultServiceTimeout
	if ask.Timeout != "" {
		d, ok := parseDuration(ask.Timeout)
		if !ok || d < time.Millisecond {
			return runtime.Errorf(runtime.CodeBadRequest, "timeout must be a positive duration such as 30s, not %q", clip(ask.Timeout, 40))
		}
		timeout = d
	}
	s := engine.Service{App: x.app(), Name: x.names[1], URL: ask.URL, Timeout: timeout, Proxied: ask.Proxied || runtime.Proxied(ask.URL)}
	replaced, err := x.mesh.AddService(x.r.Context(), s)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if replaced {
		status = http.StatusOK
	}
	return x.json(status, serviceAnswer{s.Name, s.URL, s.Timeout.String(), s.Proxied})
}

// removeService serves DELETE /services/{service}.
func (x *exchange) removeService() error {
	existed, err := x.mesh.RemoveService(x.r.Context(), x.app(), x.names[1])
	if err != nil {
		return err
	}
	if !existed {
		return runtime.Errorf(runtime.CodeNotFound, "no service %q is registered by URL in this app", clip(x.names[1], 60))
	}
	return x.empty(http.StatusNoContent)
}

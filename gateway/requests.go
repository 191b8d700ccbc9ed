package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// await serves POST /await: the body is the id of an earlier request.
func (x *exchange) await() error {
	body, err := x.body()
	if err != nil {
		return err
	}
	return x.awaitID(strings.TrimSpace(string(body)))
}

// outcome serves GET /requests/{request}/outcome.
func (x *exchange) outcome() error { return x.awaitID(x.names[1]) }

func (x *exchange) awaitID(name string) error {
	id, err := runtime.ParseID(name)
	if err != nil {
		return err
	}
	limit, err := x.duration("Kar-Timeout", 1)
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	if limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	out, err := x.mesh.Await(ctx, x.app(), id, x.caller.Boot)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return &runtime.Error{Code: runtime.CodeDeadline, Detail: "the request did not complete within " + limit.String(), ID: id}
	}
	if err != nil {
		return withID(err, id)
	}
	x.relay(out, id)
	return nil
}

// A requestAnswer tells where a request is.
type requestAnswer struct {
	ID        string `json:"id"`
	State     string `json:"state"` // waiting, parked, running, retrying or completed
	Type      string `json:"actorType,omitempty"`
	Actor     string `json:"actorId,omitempty"`
	Service   string `json:"service,omitempty"`
	Attempt   uint32 `json:"attempt"`
	Step      uint32 `json:"step"`
	Host      string `json:"host,omitempty"`
	BlockedBy string `json:"blockedBy,omitempty"`
}

// describeRequest serves GET /requests/{request}.
func (x *exchange) describeRequest() error {
	id, err := runtime.ParseID(x.names[1])
	if err != nil {
		return err
	}
	info, err := x.mesh.Request(x.r.Context(), x.app(), id)
	if err != nil {
		return withID(err, id)
	}
	return x.json(http.StatusOK, requestAnswer{
		ID: id.String(), State: info.State,
		Type: info.Target.Type, Actor: info.Target.ID, Service: info.Target.Service,
		Attempt: info.Attempt, Step: info.Step, Host: info.Host, BlockedBy: info.BlockedBy,
	})
}

// cancelRequest serves DELETE /requests/{request}.
func (x *exchange) cancelRequest() error {
	id, err := runtime.ParseID(x.names[1])
	if err != nil {
		return err
	}
	result, err := x.mesh.Cancel(x.r.Context(), x.app(), id)
	if err != nil {
		return withID(err, id)
	}
	return x.json(http.StatusOK, struct {
		ID     string `json:"id"`
		Result string `json:"result"` // cancelled, running or completed
	}{id.String(), result})
}

// cancelAll serves DELETE /requests.
func (x *exchange) cancelAll() error {
	n, err := x.mesh.CancelAll(x.r.Context(), x.app())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		Cancelled int `json:"cancelled"`
	}{n})
}

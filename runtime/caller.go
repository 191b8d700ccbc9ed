package runtime

import "context"

// A Caller is who sent an API request: a host over its own stream, or whoever
// showed a token. The zero Caller is a client outside that may act for all apps.
type Caller struct {
	App  string // the only app for which the caller may act; "" for all
	Boot string // the host boot, "" for a client outside
	// ID is the id under which the sidecar repeats the request until it has an
	// answer; zero when it did not make one.
	ID ID
}

type callerKey struct{}

// MayActFor tells whether what is of an app is the caller's affair.
func (c Caller) MayActFor(app string) bool { return c.App == "" || c.App == app }

// WithCaller marks a context as that of a request of c. Only the doors do this:
// the activator for a host's stream, the guard for a token; a header cannot forge it.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is the Caller that a door put into ctx, else the zero one.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

package runtime

import "context"

// A Caller is who sent an API request over a host's own stream.
type Caller struct {
	App  string // the host's app; nothing of another app is its affair
	Boot string // the host boot, "" for a client outside
	// ID is the id under which the sidecar repeats the request until it has an
	// answer; zero when it did not make one.
	ID ID
}

type callerKey struct{}

// WithCaller marks a context as one of a request that came over an attached
// host's stream. Only the activator does this; a header cannot forge it.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is the zero Caller for a client outside.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

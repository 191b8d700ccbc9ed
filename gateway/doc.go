// Package gateway is the way in: the HTTP API of a mesh.
//
// One [Gateway] serves every app under /apps/{app}/kar/v1/… with the routes of
// KAR 1.x and those added since, and an admin part under /kar/… and /metrics.
// It turns HTTP into calls of the engine and outcomes back into HTTP. It keeps
// no state of its own: what it has answered is in the log, or it was not accepted.
//
//	routes.go     every route on one page
//	path.go       from an escaped path to a route and its names
//	exchange.go   one request and its answer; what handlers share
//	problem.go    errors as HTTP, in the style of KAR 1.x or as problem JSON
//	limits.go     the Kar-… headers
//	invoke.go     calls, tells, promises; requests.go: what became of them
//	state.go reminders.go events.go system.go manage.go admin.go: the rest of the API
package gateway

package gateway

import "net/http"

// api is the path under which an app's API is served.
const api = "/apps/{app}/kar/v1"

// routes is the whole API. The API document lists the same routes; a test holds the two together.
func (g *Gateway) routes() []*route {
	const (
		get, head, post, put, del = http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete
		actor                     = api + "/actor/{type}/{id}"
	)
	old := func(name, pattern string, m ...method) *route {
		return &route{pattern: pattern, name: name, kar1: true, methods: m}
	}
	added := func(name, pattern string, m ...method) *route {
		return &route{pattern: pattern, name: name, methods: m}
	}
	public := func(r *route) *route {
		r.open = true
		return r
	}
	return []*route{
		// As in KAR 1.x.
		old("service_call", api+"/service/{service}/call/{path*}", allVerbs((*exchange).callService)...),
		old("actor_call", actor+"/call/{path*}", method{post, (*exchange).callActor}),
		old("await", api+"/await", method{post, (*exchange).await}),
		old("actor", actor, method{del, (*exchange).removeActor}),

		old("state", actor+"/state", method{get, (*exchange).allState}, method{post, (*exchange).updateState}, method{del, (*exchange).clearState}),
		old("state_key", actor+"/state/{key}", method{get, (*exchange).getKey}, method{head, (*exchange).getKey},
			method{put, (*exchange).setKey}, method{del, (*exchange).deleteKey}, method{post, (*exchange).submap}),
		old("state_subkey", actor+"/state/{key}/{subkey}", method{get, (*exchange).getSubkey}, method{head, (*exchange).getSubkey},
			method{put, (*exchange).setSubkey}, method{del, (*exchange).deleteSubkey}),

		old("reminders", actor+"/reminders", method{get, (*exchange).listReminders}, method{del, (*exchange).cancelReminders}),
		old("reminder", actor+"/reminders/{reminder}", method{get, (*exchange).getReminder}, method{put, (*exchange).setReminder}, method{del, (*exchange).cancelReminder}),

		old("subscriptions", actor+"/events", method{get, (*exchange).listSubscriptions}, method{del, (*exchange).unsubscribeAll}),
		old("subscription", actor+"/events/{subscription}", method{get, (*exchange).getSubscription}, method{put, (*exchange).subscribe}, method{del, (*exchange).unsubscribe}),
		old("topic", api+"/event/{topic}", method{put, (*exchange).createTopic}, method{del, (*exchange).deleteTopic}),
		old("publish", api+"/event/{topic}/publish", method{post, (*exchange).publish}),

		old("system_health", api+"/system/health", method{get, (*exchange).systemHealth}),
		old("system_shutdown", api+"/system/shutdown", method{post, (*exchange).sidecarOnly}),
		old("information", api+"/system/information/{component}", method{get, (*exchange).information}),
		old("debug", api+"/debug/register", method{get, (*exchange).debugger}, method{post, (*exchange).debugger}, method{put, (*exchange).debugger}),

		// Added since.
		added("requests", api+"/requests", method{del, (*exchange).cancelAll}),
		added("request", api+"/requests/{request}", method{get, (*exchange).describeRequest}, method{del, (*exchange).cancelRequest}),
		added("outcome", api+"/requests/{request}/outcome", method{get, (*exchange).outcome}),
		added("missing", api+"/missing", method{get, (*exchange).missing}),
		added("instances", api+"/instances", method{get, (*exchange).instances}),
		added("purge", api+"/purge", method{post, (*exchange).purge}),
		added("drain", api+"/drain", method{post, (*exchange).drain}),
		added("services", api+"/services", method{get, (*exchange).listServices}),
		added("service", api+"/services/{service}", method{put, (*exchange).addService}, method{del, (*exchange).removeService}),

		// For operators.
		public(added("health", "/kar/health", method{get, (*exchange).health}, method{head, (*exchange).health})),
		public(added("ready", "/kar/ready", method{get, (*exchange).ready}, method{head, (*exchange).ready})),
		added("status", "/kar/status", method{get, (*exchange).gatewayStatus}),
		added("openapi", "/kar/openapi.json", method{get, (*exchange).openapi}),
		added("metrics", "/metrics", method{get, (*exchange).scrape}),
	}
}

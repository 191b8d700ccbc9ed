package runtime

import (
	"bytes"
	"net/url"
	"strings"
)

// Proxies answer in the place of a service without a mark by which they could be
// told from it, so an answer through one is believed by these rules alone.

// Proxied tells whether a url is by its form one of a platform that puts a proxy in
// front of the service.
func Proxied(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	return strings.Contains(host, ".svc.") || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".codeengine.appdomain.cloud")
}

// A Meaning is what a complete answer says about an attempt.
type Meaning uint8

const (
	MeansResult     Meaning = iota // the service has answered
	MeansNothing                   // a proxy may have; the attempt may still run
	MeansNotStarted                // a proxy has kept it from the service
)

// ThroughProxy is what an answer to an attempt means behind a proxy. Whoever passes
// on or echoes the attempt's Kar-Request-Id is the service.
func (o *Outcome) ThroughProxy(a Attempt) Meaning {
	if o.Header.Get("Kar-Request-Id") == a.ID.String() {
		if n := o.Header.Get("Kar-Attempt"); n == "" || n == utoa(uint64(a.Number)) {
			return MeansResult
		}
	}
	switch o.Status {
	case 500:
		if len(o.Body) == 0 {
			return MeansNothing
		}
	case 502, 504:
		return MeansNothing
	case 503:
		if string(bytes.TrimSpace(o.Body)) == "pending request queue full" {
			return MeansNotStarted
		}
		return MeansNothing
	case 404:
		if bytes.HasPrefix(o.Body, []byte("Error getting active endpoint")) {
			return MeansNothing
		}
	}
	return MeansResult
}

package host

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/karmesh/kar/runtime"
)

// AnyClient is an HTTP client for a list of gateways as in [Config], and the
// URL to which its requests are addressed. A request goes to the gateway that
// answered last, and to the next while none can have got it.
func (a Access) AnyClient(list string) (base string, client *http.Client, err error) {
	addresses, err := SplitGateways(list)
	if err != nil {
		return "", nil, err
	}
	if len(addresses) == 1 {
		client, err = a.Client(addresses[0])
		return gatewayURL(addresses[0]), client, err
	}
	any := &anyGateway{}
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			return "", nil, runtime.Errorf(runtime.CodeBadConfig, "the gateway address %q is no URL", address)
		}
		c, err := a.Client(address)
		if err != nil {
			return "", nil, err
		}
		if d, ok := c.Transport.(*door); ok {
			d.next.DialContext = (&net.Dialer{Timeout: dialLimit}).DialContext
		}
		any.ends = append(any.ends, gatewayEnd{u, c.Transport})
	}
	return addresses[0], &http.Client{Transport: any}, nil
}

// anyGateway is the transport of a list of gateways.
type anyGateway struct {
	ends []gatewayEnd
	at   atomic.Int64 // of the next request
}

type gatewayEnd struct {
	url  *url.URL
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *anyGateway) RoundTrip(r *http.Request) (*http.Response, error) {
	home := g.ends[0].url
	if r.URL.Scheme != home.Scheme || r.URL.Host != home.Host { // elsewhere, by a redirect
		return g.ends[0].next.RoundTrip(r)
	}
	at := g.at.Load()
	for tried := 1; ; tried++ {
		end := g.ends[int(at)%len(g.ends)]
		again := r.Clone(r.Context())
		again.URL.Scheme, again.URL.Host, again.Host = end.url.Scheme, end.url.Host, ""
		again.URL.Path, again.URL.RawPath = strings.TrimSuffix(end.url.Path, "/")+r.URL.Path, ""
		if r.URL.RawPath != "" {
			again.URL.RawPath = strings.TrimSuffix(end.url.EscapedPath(), "/") + r.URL.RawPath
		}
		if r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			again.Body = body
		}
		resp, err := end.next.RoundTrip(again)
		if err == nil {
			g.at.Store(at)
			return resp, nil
		}
		at++
		var refused *runtime.Error // by the gateway's door
		var op *net.OpError
		unsent := errors.As(err, &refused) || errors.As(err, &op) && op.Op == "dial"
		if !unsent || tried == len(g.ends) || r.Context().Err() != nil || r.Body != nil && r.GetBody == nil {
			g.at.Store(at)
			return nil, err
		}
	}
}

// CloseIdleConnections is what http.Client looks for.
func (g *anyGateway) CloseIdleConnections() {
	for _, e := range g.ends {
		if c, ok := e.next.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

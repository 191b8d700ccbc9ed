package doors

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// Guard asks every request for a token before it goes on to next. It is for
// listeners that others can reach, not for the Unix socket. Refuse writes the
// answer to those who may not. Without a secret everybody goes on. Who showed no
// token gets little time and room, others what their bodies need.
//
// Paths for [Keys.VerifyPeer] belong beside it, not behind it; see [Strangers].
func (k *Keys) Guard(next http.Handler, refuse func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sender, err := k.admit(r)
		if err != nil {
			if err.Code == runtime.CodeUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="kar"`)
			}
			stranger(w, r, brief, func(w http.ResponseWriter, r *http.Request) {
				refuse(w, r, err)
				flush(w)
			})
			return
		}
		if sender == "" && k.HasSecret() { // an open path
			stranger(w, r, visit, func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				flush(w)
			})
			return
		}
		connectionOf(r.Context()).known()
		if sender != "" && sender != Operator {
			r = r.WithContext(runtime.WithCaller(r.Context(), runtime.Caller{App: sender}))
		}
		patient(w, r, next)
	})
}

// flush waits until the client has taken the answer, or its time is up.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// admit returns whose token the request has, "" when none is needed.
func (k *Keys) admit(r *http.Request) (sender string, refusal *runtime.Error) {
	wanted, open := wants(r)
	token := takeToken(r.Header)
	if open || !k.HasSecret() {
		return "", nil
	}
	if token == "" {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "this gateway asks for a token (Authorization: Bearer …), and the request has none")
	}
	sender, err := k.CheckToken(token)
	switch {
	case err != nil:
		e, _ := err.(*runtime.Error) //nolint:errorlint // CheckToken returns no other
		return "", e
	case sender == Operator || wanted == sender || wanted == anyApp:
		return sender, nil
	case wanted == Operator:
		return "", runtime.Errorf(runtime.CodeForbidden, "this path is for operators, and the token is of one app")
	}
	return "", runtime.Errorf(runtime.CodeForbidden, "the token is of another app than the path")
}

// tokenHeader is for requests whose Authorization is meant for the component.
const tokenHeader = "Kar-Token"

// takeToken takes the token out of the header: a call's header goes on to the
// component, and into the log before. What is no token of KAR stays where another
// one is shown.
func takeToken(h http.Header) string {
	if token := h.Get(tokenHeader); token != "" {
		h.Del(tokenHeader)
		return token
	}
	said := h.Get("Authorization")
	scheme, token, _ := strings.Cut(said, " ")
	if token = strings.TrimSpace(token); token == "" || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	if strings.HasPrefix(token, tokenKind+".") {
		h.Del("Authorization")
	}
	return token
}

// anyApp is wanted where the app is said later; the empty name is no app's.
const anyApp = ""

// wants tells whose token a request needs. It reads the path as the API's
// router does, escaped; what it does not know is for operators.
func wants(r *http.Request) (app string, open bool) {
	path := r.URL.EscapedPath()
	switch path {
	case "/kar/health", "/kar/ready":
		return "", true
	case "/kar/attach", "/kar/exit":
		return anyApp, false
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	segment, _, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(segment)
	if first != "apps" || err != nil || name == "" {
		return Operator, false
	}
	return name, false
}

// SenderApp is the only app for which the sender of a request may act; "" when
// it may act for all: an operator, this user on the Unix socket, everybody
// where there is no secret.
func SenderApp(r *http.Request) string { return runtime.CallerOf(r.Context()).App }

// MayListen refuses an address that others can reach when nobody can be told
// from anybody.
func (k *Keys) MayListen(address string) error {
	if k.HasSecret() || k.insecure {
		return nil
	}
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return runtime.Errorf(runtime.CodeBadFlag, "--listen is %q, but must be host:port: %v", address, err)
	}
	if tcp.IP.IsLoopback() {
		return nil
	}
	return runtime.Errorf(runtime.CodeNoSecret,
		"--listen %s can be reached from other machines, and without a secret of the mesh everybody there may do everything", address)
}

package doors

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/karmesh/kar/runtime"
)

const (
	secretA = "the first secret of the mesh"
	secretB = "the next secret of the mesh!"
)

func keys(t *testing.T, cfg Config) *Keys {
	t.Helper()
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func token(t *testing.T, k *Keys, app string, expires time.Time) string {
	t.Helper()
	s, err := k.Token(app, expires)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func codeOf(err error) runtime.Code {
	var e *runtime.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestTokensNameTheirApp(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	for _, app := range []string{"hello", "*", "with.dots and spaces", "sl/ash", "a\x00b", strings.Repeat("x", 4096)} {
		got, err := k.CheckToken(token(t, k, app, time.Time{}))
		if err != nil || got != app {
			t.Errorf("%.20q: got %.20q, %v", app, got, err)
		}
	}
	if _, err := k.Token("", time.Time{}); codeOf(err) != runtime.CodeBadFlag {
		t.Errorf("an empty app: got %v", err)
	}
	if _, err := keys(t, Config{}).Token("a", time.Time{}); codeOf(err) != runtime.CodeNoSecret {
		t.Errorf("without secret: got %v", err)
	}
}

func TestTokensThatAreNone(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	k := keys(t, Config{Secret: secretA, Now: func() time.Time { return now }})
	good := token(t, k, "hello", now.Add(time.Hour))
	parts := strings.Split(good, ".")
	other := base64.RawURLEncoding.EncodeToString([]byte("other"))
	for name, c := range map[string]struct{ token, says string }{
		"empty":               {"", "form"},
		"a word":              {"letmein", "form"},
		"no proof":            {strings.Join(parts[:3], "."), "form"},
		"another version":     {"kar2." + strings.Join(parts[1:], "."), "form"},
		"too many parts":      {good + ".x", "form"},
		"another app":         {"kar1." + other + "." + parts[2] + "." + parts[3], "not made with"},
		"a later expiry":      {"kar1." + parts[1] + ".9" + parts[2] + "." + parts[3], "not made with"},
		"no expiry":           {"kar1." + parts[1] + ".0." + parts[3], "not made with"},
		"a negative expiry":   {"kar1." + parts[1] + ".-1." + parts[3], "form"},
		"app not base64":      {"kar1.!." + parts[2] + "." + parts[3], "form"},
		"an empty app":        {"kar1.." + parts[2] + "." + parts[3], "form"},
		"an empty proof":      {strings.Join(parts[:3], ".") + ".", "not made with"},
		"half a proof":        {good[:len(good)-20], "not made with"},
		"another secret":      {token(t, keys(t, Config{Secret: secretB}), "hello", time.Time{}), "not made with"},
		"expired":             {token(t, k, "hello", now.Add(-time.Second)), "expired at 2023-11-14T22:13:19Z"},
		"expired this second": {token(t, k, "hello", now), "expired"},
		"endless":             {"kar1." + strings.Repeat("a", 1<<20) + ".0.x", "form"},
	} {
		app, err := k.CheckToken(c.token)
		if codeOf(err) != runtime.CodeUnauthorized || app != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %q, %v", name, app, err)
		}
		if len(c.token) > 30 && err != nil && strings.Contains(err.Error(), c.token[len(c.token)-15:]) {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
	if _, err := k.CheckToken(good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// TestSecretsAreRotated in the order that docs/security.md gives.
func TestSecretsAreRotated(t *testing.T) {
	old := keys(t, Config{Secret: secretA})
	both := keys(t, Config{Secret: secretA + " , " + secretB})
	turned := keys(t, Config{Secret: secretB + "," + secretA})
	only := keys(t, Config{Secret: secretB})
	for i, c := range []struct {
		maker, checker *Keys
		ok             bool
	}{
		{old, both, true}, {both, old, true}, {both, turned, true}, {turned, both, true},
		{turned, only, true}, {only, turned, true}, {old, only, false}, {only, old, false},
	} {
		if _, err := c.checker.CheckToken(token(t, c.maker, "a", time.Time{})); (err == nil) != c.ok {
			t.Errorf("token %d: %v", i, err)
		}
		if _, err := handshake(c.maker, c.checker, nil); (err == nil) != c.ok {
			t.Errorf("handshake %d: %v", i, err)
		}
	}
}

func TestSecretsThatAreTooShort(t *testing.T) {
	for _, s := range []string{"short", secretA + ",", secretA + ",short", ",", "12345678 1234567"[:15]} {
		if _, err := New(Config{Secret: s}); codeOf(err) != runtime.CodeBadConfig || strings.Contains(err.Error(), "short") {
			t.Errorf("%q: got %v", s, err)
		}
	}
	if keys(t, Config{Secret: " \n"}).HasSecret() {
		t.Error("blanks are a secret")
	}
}

// guarded is a server behind Guard that says for whom the sender may act.
func guarded(t *testing.T, k *Keys) func(path, authorization string) (int, string) {
	t.Helper()
	h := k.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "for "+SenderApp(r))
	}), func(w http.ResponseWriter, _ *http.Request, err error) {
		w.WriteHeader(codeOf(err).Status())
		_, _ = io.WriteString(w, err.Error())
	})
	return func(path, authorization string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if (w.Code == http.StatusUnauthorized) != (w.Header().Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d with WWW-Authenticate %q", path, w.Code, w.Header().Get("WWW-Authenticate"))
		}
		return w.Code, w.Body.String()
	}
}

func TestGuard(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	ask := guarded(t, k)
	shop, slash, operator := "Bearer "+token(t, k, "shop", time.Time{}), "Bearer "+token(t, k, "a/b", time.Time{}), "Bearer "+token(t, k, Operator, time.Time{})
	for _, c := range []struct {
		path, authorization string
		status              int
		says                string
	}{
		{"/kar/health", "", 200, "for "},
		{"/kar/ready", "", 200, "for "},
		{"/kar/ready", "Bearer wrong", 200, "for "},
		{"/kar/status", "", 401, "has none"},
		{"/apps/shop/kar/v1/missing", "", 401, "has none"},
		{"/apps/shop/kar/v1/missing", "Basic c2hvcDpzaG9w", 401, "has none"},
		{"/apps/shop/kar/v1/missing", "Bearer", 401, "has none"},
		{"/apps/shop/kar/v1/missing", "Bearer wrong", 401, "form"},
		{"/apps/shop/kar/v1/missing", shop, 200, "for shop"},
		{"/apps/shop/kar/v1/missing", strings.Replace(shop, "Bearer", "bearer", 1), 200, "for shop"},
		{"/apps/shop", shop, 200, "for shop"},
		{"/apps/sh%6Fp/kar/v1/missing", shop, 200, "for shop"},
		{"/apps/other/kar/v1/missing", shop, 403, "another app"},
		{"/apps/shop%2F../kar/v1/missing", shop, 403, "another app"},
		{"/apps/a%2Fb/kar/v1/missing", slash, 200, "for a/b"},
		{"/apps/a/b/kar/v1/missing", slash, 403, "another app"},
		{"/apps/*/kar/v1/missing", shop, 403, "for operators"},
		{"/apps//kar/v1/missing", shop, 403, "for operators"},
		{"//apps/shop/kar/v1/missing", shop, 403, "for operators"},
		{"/apps%2Fshop/kar/v1/missing", shop, 403, "for operators"},
		{"/%61pps/shop/kar/v1/missing", shop, 403, "for operators"},
		{"/metrics", shop, 403, "for operators"},
		{"/kar/status", shop, 403, "for operators"},
		{"/kar/peer", shop, 403, "for operators"},
		{"/kar/anything/new", shop, 403, "for operators"},
		{"/kar/attach", shop, 200, "for shop"},
		{"/kar/exit", shop, 200, "for shop"},
		{"/kar/attach", "", 401, "has none"},
		{"/kar%2Fattach", "", 401, "has none"},
		{"/kar%2Fhealth", "", 401, "has none"},
		{"/metrics", operator, 200, "for "},
		{"/apps/shop/kar/v1/purge", operator, 200, "for "},
		{"/kar/attach", operator, 200, "for "},
	} {
		status, body := ask(c.path, c.authorization)
		if status != c.status || !strings.Contains(body, c.says) || (status == 200 && body != c.says) {
			t.Errorf("%s with %.20q: got %d %q, want %d %q", c.path, c.authorization, status, body, c.status, c.says)
		}
	}
	if status, _ := guarded(t, keys(t, Config{}))("/metrics", ""); status != 200 {
		t.Errorf("without a secret: got %d", status)
	}
}

// TestTokensStayAtTheDoor: the header of a call goes into the log and to the component.
func TestTokensStayAtTheDoor(t *testing.T) {
	k := keys(t, Config{Secret: secretA})
	mine := token(t, k, "a", time.Time{})
	for name, c := range map[string]struct {
		keys           *Keys
		header, passed http.Header
		status         int
	}{
		"a token":                                  {k, http.Header{"Authorization": {"Bearer " + mine}}, http.Header{}, 200},
		"beside another":                           {k, http.Header{"Kar-Token": {mine}, "Authorization": {"Bearer theirs"}}, http.Header{"Authorization": {"Bearer theirs"}}, 200},
		"beside a password":                        {k, http.Header{"Kar-Token": {mine}, "Authorization": {"Basic dTpw"}}, http.Header{"Authorization": {"Basic dTpw"}}, 200},
		"the component's only":                     {k, http.Header{"Authorization": {"Bearer theirs"}}, nil, 401},
		"a wrong Kar-Token":                        {k, http.Header{"Kar-Token": {"x"}, "Authorization": {"Bearer " + mine}}, nil, 401},
		"where none is asked for":                  {keys(t, Config{}), http.Header{"Authorization": {"Bearer " + mine}, "Kar-Token": nil}, http.Header{"Kar-Token": nil}, 200},
		"the component's, where none is asked for": {keys(t, Config{}), http.Header{"Authorization": {"Bearer theirs"}}, http.Header{"Authorization": {"Bearer theirs"}}, 200},
	} {
		var passed http.Header
		h := c.keys.Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { passed = r.Header }),
			func(w http.ResponseWriter, _ *http.Request, err error) { w.WriteHeader(codeOf(err).Status()) })
		r := httptest.NewRequest(http.MethodPost, "/apps/a/kar/v1/service/s/call/p", nil)
		r.Header = c.header
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || !reflect.DeepEqual(passed, c.passed) {
			t.Errorf("%s: %d, and %v goes on, want %d, %v", name, w.Code, passed, c.status, c.passed)
		}
	}
}

func TestWhereAGatewayMayListen(t *testing.T) {
	none, insecure, secret := keys(t, Config{}), keys(t, Config{Insecure: true}), keys(t, Config{Secret: secretA, Insecure: true})
	for _, here := range []string{"127.0.0.1:8090", "127.1.2.3:0", "[::1]:8090", "localhost:8090"} {
		if err := none.MayListen(here); err != nil {
			t.Errorf("%s: %v", here, err)
		}
	}
	for _, anywhere := range []string{":8090", "0.0.0.0:8090", "[::]:8090", "192.0.2.1:8090"} {
		if err := none.MayListen(anywhere); codeOf(err) != runtime.CodeNoSecret || !strings.Contains(err.Error(), anywhere) {
			t.Errorf("%s: got %v", anywhere, err)
		}
		if err := insecure.MayListen(anywhere); err != nil {
			t.Errorf("insecure %s: %v", anywhere, err)
		}
		if err := secret.MayListen(anywhere); err != nil {
			t.Errorf("with secret %s: %v", anywhere, err)
		}
	}
	if err := none.MayListen("nonsense"); codeOf(err) != runtime.CodeBadFlag {
		t.Errorf("got %v", err)
	}
	if !insecure.Insecure() || secret.Insecure() || none.Insecure() {
		t.Error("who is insecure")
	}
}

// BenchmarkGuard is what the check adds to a request.
func BenchmarkGuard(b *testing.B) {
	k, err := New(Config{Secret: secretA + "," + secretB})
	if err != nil {
		b.Fatal(err)
	}
	mine, err := k.Token("shop", time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	h := k.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil)
	r := httptest.NewRequest(http.MethodPost, "/apps/shop/kar/v1/actor/T/i/call/m", nil)
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		r.Header["Authorization"] = []string{"Bearer " + mine}
		h.ServeHTTP(w, r)
	}
}

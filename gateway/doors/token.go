package doors

import (
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// Operator stands for all apps in a token.
const Operator = "*"

const (
	// tokenKind begins every token and names its version.
	tokenKind = "kar1"
	// tokenLimit is the longest token that is looked at: the name of an app may
	// have 4096 bytes.
	tokenLimit = 6000
)

// Token makes the token of an app, or of an operator for [Operator]. Expires
// zero means never. The form is
//
//	kar1.<app>.<expiry>.<proof of all before the last dot>
//
// with app and proof in base64url without padding and expiry in Unix seconds,
// 0 for never.
func (k *Keys) Token(app string, expires time.Time) (string, error) {
	if !k.HasSecret() {
		return "", runtime.Errorf(runtime.CodeNoSecret, "a token is made from the mesh's secret, and none was given")
	}
	if app == "" {
		return "", runtime.Errorf(runtime.CodeBadFlag, "a token needs the name of an app")
	}
	until := int64(0)
	if !expires.IsZero() {
		until = expires.Unix()
	}
	text := tokenKind + "." + b64().EncodeToString([]byte(app)) + "." + strconv.FormatInt(until, 10)
	return text + "." + k.prove(text), nil
}

// CheckToken returns the app of a token, [Operator] for an operator's. The
// error is CodeUnauthorized and says nothing of the token's text.
func (k *Keys) CheckToken(token string) (app string, err error) {
	cut := strings.LastIndexByte(token, '.')
	if len(token) > tokenLimit || cut < 0 {
		return "", malformed()
	}
	text := token[:cut]
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[0] != tokenKind {
		return "", malformed()
	}
	name, err := b64().DecodeString(parts[1])
	if err != nil || len(name) == 0 {
		return "", malformed()
	}
	until, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || until < 0 {
		return "", malformed()
	}
	if !k.proved(text, token[cut+1:]) {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "the token was not made with a secret of this mesh")
	}
	if end := time.Unix(until, 0); until != 0 && !k.now().Before(end) {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "the token expired at %s", end.UTC().Format(time.RFC3339))
	}
	return string(name), nil
}

func malformed() error {
	return runtime.Errorf(runtime.CodeUnauthorized, "what was sent has not the form of a token, kar1.….….…")
}

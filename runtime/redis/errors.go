package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/karmesh/kar/runtime"
)

// errAnswer: Redis said something that no script of ours says.
var errAnswer = errors.New("Redis gives an answer that this version does not understand")

// list is the answer of a script that says first where the partition is.
func (r *Redis) list(cmd *goredis.Cmd) ([]any, error) {
	list, err := cmd.Slice()
	if err == nil && len(list) < 2 {
		err = errAnswer
	}
	return list, err
}

// fault gives an error of Redis its code. It never holds a password: the
// library's errors and the server's do not.
func (r *Redis) fault(tried string, err error) error {
	var known *runtime.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	text := err.Error()
	say := func(code runtime.Code, format string, args ...any) error {
		args = append([]any{tried, r.place()}, args...)
		return runtime.Errorf(code, "cannot %s: Redis at %s "+format, args...)
	}
	switch {
	case strings.HasPrefix(text, "KARFOREIGN "):
		return runtime.Errorf(runtime.CodeForeign, "cannot %s: Redis at %s holds %q, and this is %q",
			tried, r.place(), strings.TrimPrefix(text, "KARFOREIGN "), r.identity)
	case hasWord(text, "WRONGPASS", "NOAUTH") || strings.Contains(text, "invalid password") || strings.Contains(text, "AUTH <password> called without"):
		return say(runtime.CodeRedisAuth, "refuses user or password (%s)", text)
	case hasWord(text, "NOPERM"):
		return say(runtime.CodeRedisAuth, "lets user %q in, but not do this (%s)", r.cfg.User, text)
	case isTLS(err):
		return say(runtime.CodeRedisTLS, "and this gateway do not agree on TLS (%s)", text)
	case hasWord(text, "READONLY"):
		return say(runtime.CodeRedisNoWrites, "is a replica that takes no writes (%s)", text)
	case hasWord(text, "MOVED") && len(r.cfg.Cluster) == 0:
		return say(runtime.CodeRedisSettings, "is part of a cluster, but was given as a single server (%s)", text)
	case strings.Contains(text, "cluster support disabled"):
		return say(runtime.CodeRedisSettings, "is not a cluster, but was given as one")
	case hasWord(text, "OOM"):
		return say(runtime.CodeRedisNoWrites, "is full (%s)", text)
	case hasWord(text, "MISCONF", "NOREPLICAS"):
		return say(runtime.CodeRedisNoWrites, "takes no writes (%s)", text)
	case hasWord(text, "WRONGTYPE"):
		return say(runtime.CodeForeign, "holds something else under a key of this mesh (%s)", text)
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, errMoved):
		return runtime.Errorf(runtime.CodeStoreAway, "cannot %s: others keep changing it meanwhile", tried)
	case errors.Is(err, errAnswer):
		return say(runtime.CodeRedisSettings, "does not answer as Redis does")
	}
	return say(runtime.CodeRedisUnreachable, "does not answer (%s)", text)
}

// hasWord: errors of Redis start with a word in capitals; some of the library's
// have it further back.
func hasWord(text string, words ...string) bool {
	for _, w := range words {
		if strings.HasPrefix(text, w+" ") || strings.Contains(text, " "+w+" ") || strings.Contains(text, "-"+w+" ") {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var (
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
		verify  *tls.CertificateVerificationError
	)
	return errors.As(err, &record) || errors.As(err, &unknown) || errors.As(err, &name) ||
		errors.As(err, &invalid) || errors.As(err, &alert) || errors.As(err, &verify) ||
		strings.Contains(err.Error(), "tls: ")
}

// place is where Redis is, for messages.
func (r *Redis) place() string {
	switch {
	case len(r.cfg.Cluster) > 0:
		return strings.Join(r.cfg.Cluster, ",")
	case len(r.cfg.Sentinels) > 0:
		return "master " + r.cfg.Master + " of sentinels " + strings.Join(r.cfg.Sentinels, ",")
	}
	return r.cfg.addr()
}

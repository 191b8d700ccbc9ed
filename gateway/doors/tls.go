package doors

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/karmesh/kar/runtime"
)

// lookEvery is how often the files of a certificate are looked at again, at
// most, and only when somebody connects.
const lookEvery = time.Second

// ServerTLS serves the certificate in two PEM files, and a new one soon after
// the files have changed. A change that cannot be used is logged and the
// certificate before goes on.
func ServerTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{files: [2]string{certFile, keyFile}, log: log}
	if certFile == "" || keyFile == "" {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "--tls-cert and --tls-key belong together, and one of them is missing")
	}
	if err := c.load(); err != nil {
		return nil, runtime.Errorf(runtime.CodeBadConfig, "the certificate in --tls-cert %s and --tls-key %s cannot be used: %v", certFile, keyFile, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// A certificate is what its files held when they were last good.
type certificate struct {
	files [2]string // certificate and key
	log   *slog.Logger

	mu     sync.Mutex
	now    *tls.Certificate
	stamp  [2]fileStamp // of now
	failed string       // why the files cannot be used now, "" when they can
	looked time.Time
}

// A fileStamp changes when a file does.
type fileStamp struct {
	changed time.Time
	size    int64
}

func (c *certificate) stamps() (s [2]fileStamp, err error) {
	for i, name := range c.files {
		info, err := os.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

// load reads the files; a change meanwhile is seen at the next look.
func (c *certificate) load() error {
	stamp, err := c.stamps()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.files[0], c.files[1])
	if err != nil {
		return err
	}
	c.now, c.stamp, c.looked = &pair, stamp, time.Now()
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.now, nil
	}
	c.looked = time.Now()
	stamp, err := c.stamps()
	if err == nil && stamp == c.stamp {
		c.failed = ""
		return c.now, nil
	}
	if err == nil {
		err = c.load()
	}
	switch {
	case err == nil:
		c.failed = ""
		c.log.Info("the certificate was read again", "tls_cert", c.files[0])
	case err.Error() != c.failed: // said once
		c.failed = err.Error()
		c.log.Warn("a new certificate cannot be used, the one before goes on", "tls_cert", c.files[0], "tls_key", c.files[1], "error", err)
	}
	return c.now, nil
}

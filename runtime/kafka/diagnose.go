package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/karmesh/kar/runtime"
)

// diagnose says why a broker cannot be used. Kafka answers a client that speaks
// the wrong protocol by closing the connection, so the other ways are tried.
func (c *Cluster) diagnose(ctx context.Context, addr string, err error) error {
	var coded *runtime.Error
	if errors.As(err, &coded) {
		return coded
	}
	if e := c.refused(addr, err); e != nil {
		return e
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return runtime.Errorf(runtime.CodeKafkaUnreachable, "no broker answers at %s: %v", addr, plain(err))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // whoever speaks another protocol hangs up at once
		return runtime.Errorf(runtime.CodeKafkaUnreachable, "the broker at %s does not answer within %v", addr, c.cfg.Timeout)
	}
	if c.cfg.TLS.Enable {
		if e := tlsFault(addr, err); e != nil {
			return e
		}
		if closedEarly(err) && c.speaksPlain(ctx, addr) {
			return runtime.Errorf(runtime.CodeKafkaTLS, "the broker at %s speaks without TLS, and TLS is switched on", addr)
		}
	} else if speaksTLS(ctx, addr, c) {
		return runtime.Errorf(runtime.CodeKafkaTLS, "the broker at %s speaks TLS, and TLS is not switched on", addr)
	}
	if closedEarly(err) && c.cfg.SASL.Mechanism == "" {
		if mechanisms := c.wantsLogin(ctx, addr); mechanisms != "" {
			return runtime.Errorf(runtime.CodeKafkaAuth, "the broker at %s wants a login (%s), and no password is given", addr, mechanisms)
		}
	}
	return runtime.Errorf(runtime.CodeKafkaUnreachable, "the broker at %s does not answer: %v", addr, plain(err))
}

// refused reads what a broker says in words.
func (c *Cluster) refused(addr string, err error) error {
	is := func(code sarama.KError) bool { return errors.Is(err, code) } // also inside of sarama's own wrapping
	switch {
	case is(sarama.ErrSASLAuthenticationFailed):
		return runtime.Errorf(runtime.CodeKafkaAuth, "the broker at %s refuses the login of user %q with %s", addr, c.cfg.SASL.User, c.sarama.Net.SASL.Mechanism)
	case is(sarama.ErrUnsupportedSASLMechanism):
		return runtime.Errorf(runtime.CodeKafkaAuth, "the broker at %s does not know the mechanism %s", addr, c.sarama.Net.SASL.Mechanism)
	case is(sarama.ErrIllegalSASLState):
		return runtime.Errorf(runtime.CodeKafkaAuth, "the broker at %s takes no login at this address, and a password is given", addr)
	case is(sarama.ErrTopicAuthorizationFailed), is(sarama.ErrClusterAuthorizationFailed), is(sarama.ErrGroupAuthorizationFailed):
		return c.forbidden("do this at " + addr)
	case is(sarama.ErrUnsupportedVersion):
		return runtime.Errorf(runtime.CodeKafkaTooOld, "the broker at %s does not know a request that KAR needs", addr)
	}
	return nil
}

func (c *Cluster) forbidden(what string) error {
	user := "this client"
	if c.cfg.SASL.Mechanism != "" {
		user = fmt.Sprintf("user %q", c.cfg.SASL.User)
	}
	return runtime.Errorf(runtime.CodeKafkaPermission, "Kafka does not permit %s to %s", user, what)
}

func tlsFault(addr string, err error) error {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return runtime.Errorf(runtime.CodeKafkaTLS, "the broker at %s speaks without TLS, and TLS is switched on", addr)
	}
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var alert tls.AlertError
	if errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &name) {
		return runtime.Errorf(runtime.CodeKafkaTLS, "the certificate of the broker at %s is not accepted: %v", addr, err)
	}
	if errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls:") {
		return runtime.Errorf(runtime.CodeKafkaTLS, "the broker at %s refuses the TLS connection, as it does when it wants a client certificate: %v", addr, plain(err))
	}
	return nil
}

// plain is the cause without the words that Go puts around it.
func plain(err error) error {
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, known) {
			return errors.New("the connection was closed")
		}
	}
	for _, known := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, known) {
			return known
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}

func closedEarly(err error) bool {
	var decoding sarama.PacketDecodingError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, sarama.ErrNotConnected) || errors.As(err, &decoding)
}

// speaksTLS tries a handshake.
func speaksTLS(ctx context.Context, addr string, c *Cluster) bool {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/4)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return strings.Contains(err.Error(), "remote error: tls:")
	}
	conn.Close()
	return true
}

// speaksPlain asks for the versions without TLS and login. A listener that
// wants a login answers once and then hangs up.
func (c *Cluster) speaksPlain(ctx context.Context, addr string) bool {
	other := *c.sarama
	other.Net.TLS.Enable, other.Net.SASL.Enable = false, false
	b, done := c.probe(ctx, addr, other)
	defer done()
	if ok, err := b.Connected(); !ok || err != nil {
		return false
	}
	_, err := b.ApiVersions(&sarama.ApiVersionsRequest{})
	return err == nil || closedEarly(err)
}

// wantsLogin tries an unknown user, and names what the broker makes of that; it
// is "" where nobody logs in.
func (c *Cluster) wantsLogin(ctx context.Context, addr string) string {
	other := *c.sarama
	other.Net.SASL.Enable, other.Net.SASL.Handshake, other.Net.SASL.Version = true, true, sarama.SASLHandshakeV1
	other.Net.SASL.Mechanism, other.Net.SASL.User, other.Net.SASL.Password = sarama.SASLTypePlaintext, "unknown", "unknown"
	b, done := c.probe(ctx, addr, other)
	defer done()
	_, err := b.Connected()
	switch {
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		return "PLAIN"
	case errors.Is(err, sarama.ErrUnsupportedSASLMechanism):
		return "with another mechanism than PLAIN"
	}
	return ""
}

// probe connects with other settings, for a short time.
func (c *Cluster) probe(ctx context.Context, addr string, s sarama.Config) (_ *sarama.Broker, done func()) {
	w := &wire{ctx: ctx}
	s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, w
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout/4)
	stop := context.AfterFunc(ctx, w.abort)
	b := sarama.NewBroker(addr)
	if err := b.Open(&s); err != nil {
		c.cfg.Logger.Debug("Kafka cannot be probed", "broker", addr, "error", err)
	}
	return b, func() {
		stop()
		cancel()
		w.abort()
		b.Close()
	}
}

package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/karmesh/kar/runtime"
)

const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// A member is a gateway to which a stream is kept.
type member struct {
	node    string
	address string // under the lock of Peers; the last one that was announced
	cancel  context.CancelFunc
	poke    chan struct{} // the gateway has dialled this one
	done    chan struct{}
}

var (
	// errGone says that the process at the other end has ended.
	errGone = errors.New("the gateway has ended")
	// errElsewhere says that its address leads to another gateway: it has ended, and that
	// one has got its address, or it lives and advertises a wrong one.
	errElsewhere = errors.New("the address that it advertises leads to the gateway")
)

// keep dials until ctx ends.
func (p *Peers) keep(ctx context.Context, m *member) {
	pause, told, said := time.Duration(0), false, ""
	var atOnce time.Time
	for ctx.Err() == nil {
		s, err := p.dial(ctx, m)
		if err == nil {
			told, said = false, ""
			p.hold(ctx, m, s)
			if time.Since(atOnce) > p.cfg.Silence {
				atOnce, pause = time.Now(), 0
				continue // without a pause, unless it breaks again and again
			}
		} else if ctx.Err() != nil {
			return
		}
		if err != nil {
			if told && errors.Is(err, errElsewhere) && p.lives(m.node) {
				err = fmt.Errorf("%w, though it lives: give each gateway an address that leads to it alone (--advertise)", err)
			}
			if text := err.Error(); text != said {
				said = text
				p.cfg.Logger.Warn("another gateway cannot be reached", "node", m.node, "address", p.addressOf(m), "error", err)
			}
			if (errors.Is(err, errGone) || errors.Is(err, errElsewhere)) && !told {
				told = true
				p.gone(m.node)
			}
		}
		pause = p.wait(ctx, m, pause)
	}
}

// wait pauses between dials and returns the next pause.
func (p *Peers) wait(ctx context.Context, m *member, pause time.Duration) time.Duration {
	pause = min(max(2*pause, firstPause), lastPause)
	t := time.NewTimer(pause*3/4 + rand.N(pause/4+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-m.poke:
	}
	return pause
}

// hold runs a connection that was dialled, and the stream that it is a half of.
func (p *Peers) hold(ctx context.Context, m *member, out *stream) {
	defer context.AfterFunc(ctx, func() { out.fail(errClosed) })()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = out.run(out.answered) }()
	if in := p.partner(m, out); in != nil {
		p.stand(out, in)
	}
	<-ended
}

// partner waits for the other half of the stream, nil when out broke before.
func (p *Peers) partner(m *member, out *stream) *stream {
	late := time.NewTimer(5*p.cfg.Silence + lastPause)
	defer late.Stop()
	for {
		p.mu.Lock()
		in := p.in[m.node]
		p.mu.Unlock()
		if in != nil && in.whole() {
			return in
		}
		select {
		case <-out.done:
			return nil
		case <-m.poke:
		case <-late.C:
			p.cfg.Logger.Warn("another gateway can be reached, but does not dial this one; see whether it can reach this one's address", "node", m.node)
		}
	}
}

// stand is a stream from PeerUp to PeerDown.
func (p *Peers) stand(out, in *stream) {
	p.streams.Store(out.node, out)
	p.counts.up.Add(1)
	p.cfg.Logger.Info("the stream to another gateway stands", "node", out.node)
	if !p.isClosed() {
		p.handler.PeerUp(out.node)
	}
	close(in.claimed) // after PeerUp, which comes before all else
	select {
	case <-out.done:
	case <-in.done:
	}
	p.streams.Delete(out.node)
	err := errors.Join(out.broken(), in.broken())
	out.fail(errOtherHalf)
	in.fail(errOtherHalf)
	<-out.ended
	<-in.ended // what came before PeerDown is handed over before
	p.counts.up.Add(-1)
	p.counts.breaks.Add(1)
	p.cfg.Logger.Info("the stream to another gateway ended", "node", out.node, "error", err)
	if !p.isClosed() {
		p.handler.PeerDown(out.node, false)
	}
}

func (p *Peers) addressOf(m *member) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return m.address
}

// lives tells whether a gateway has dialled this one, after it was taken for gone.
func (p *Peers) lives(node string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in[node] != nil
}

// gone tells that the process has ended, after the last that came from it.
func (p *Peers) gone(node string) {
	p.mu.Lock()
	last := p.in[node]
	p.mu.Unlock()
	if last != nil {
		last.fail(errGone)
		<-last.ended
	}
	if !p.isClosed() {
		p.handler.PeerDown(node, true)
	}
}

// dial connects and makes the upgrade within Silence.
func (p *Peers) dial(ctx context.Context, m *member) (*stream, error) {
	address := p.addressOf(m)
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Silence)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("its address %q is not http://host:port", address)
	}
	conn, err := connect(ctx, u)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s, err := p.upgrade(ctx, m.node, u, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// connect tries all addresses of the host: it is gone only when all refuse.
func connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, err
	}
	end, _ := ctx.Deadline()
	refusals := 0
	for i, ip := range ips {
		d := net.Dialer{Timeout: time.Until(end) / time.Duration(len(ips)-i)}
		conn, e := d.DialContext(ctx, "tcp", net.JoinHostPort(ip.Unmap().String(), port))
		if e == nil {
			return conn, nil
		}
		err = errors.Join(err, e)
		if errors.Is(e, syscall.ECONNREFUSED) {
			refusals++
		}
	}
	if refusals > 0 && refusals == len(ips) {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	return nil, err
}

func (p *Peers) upgrade(ctx context.Context, node string, u *url.URL, conn net.Conn) (*stream, error) {
	if u.Scheme == "https" {
		cfg := p.cfg.TLS.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		cfg.NextProtos = []string{"http/1.1"}
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	var proof Handshake = &unproved{us: p.cfg.Node}
	if p.cfg.Dial != nil {
		proof = p.cfg.Dial(p.cfg.Node)
	}
	in := bufio.NewReader(conn)
	for range 3 { // a proof needs two
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.Scheme+"://"+u.Host+Path, http.NoBody)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgradeTo)
		hello{p.cfg.Mesh, protocol, p.cfg.Version, node, p.cfg.Address}.put(req.Header)
		proof.Sign(req)
		if err := req.Write(conn); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(in, req)
		if op := (*net.OpError)(nil); errors.As(err, &op) {
			err = op.Err // without the port of ours, so that it reads the same each time
		}
		if err != nil {
			return nil, fmt.Errorf("no HTTP answer: %w", err)
		}
		again, err := p.understood(node, proof, resp)
		if err != nil {
			return nil, err
		}
		if !again {
			early, err := in.Peek(in.Buffered())
			s := newStream(p, node, conn, early)
			s.pieces = resp.Header.Get(piecesHeader) != ""
			return s, err
		}
	}
	return nil, errors.New("it asks for one proof after the other")
}

// understood says whether to ask again; without that and an error the stream stands.
func (p *Peers) understood(node string, proof Handshake, resp *http.Response) (again bool, err error) {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // only to use the connection again, or to tell
		_ = resp.Body.Close()
		if said := resp.Header.Get(nodeHeader); said != "" && said != node && proved(proof, resp) {
			return false, fmt.Errorf("%w %.100s", errElsewhere, said)
		}
		if again, err = proof.Answered(resp); !again && resp.Header.Get(meshHeader) != "" {
			err = fmt.Errorf("it answered %s: %.200s", strconv.Itoa(resp.StatusCode), body)
		}
		return again, err
	}
	if _, err := proof.Answered(resp); err != nil {
		return false, err
	}
	if said := proof.Node(); said != node {
		return false, fmt.Errorf("%w %.100s", errElsewhere, said)
	}
	return false, nil
}

// proved tells whether a refusal comes from a gateway of the mesh, as far as
// the handshake can tell: anybody may say anything on a port.
func proved(proof Handshake, resp *http.Response) bool {
	p, can := proof.(interface{ Proved(*http.Response) bool })
	return !can || p.Proved(resp)
}

// unproved is the handshake of gateways without a secret.
type unproved struct{ us, them string }

func (x *unproved) Sign(r *http.Request) { r.Header.Set(nodeHeader, x.us) }

func (x *unproved) Answered(r *http.Response) (bool, error) {
	x.them = r.Header.Get(nodeHeader)
	if r.StatusCode == http.StatusSwitchingProtocols {
		return false, nil
	}
	return false, runtime.Errorf(runtime.CodeBadAnswer, "it answered %d, as no gateway of this mesh does", r.StatusCode)
}

func (x *unproved) Node() string { return x.them }

package peer

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// The hello is in the header of the upgrade. Mesh, protocol and version are of
// the dialler, the gateway is the boot id of whom it means: an address can be
// that of another process by now.
const (
	upgradeTo      = "kar-peer"
	protocol       = 1
	meshHeader     = "Kar-Mesh"
	protocolHeader = "Kar-Protocol"
	versionHeader  = "Kar-Version"
	toHeader       = "Kar-Gateway"
	// addressHeader is where the dialler is reached. Nothing proves it: who dials
	// that address finds out.
	addressHeader = "Kar-Address"
	// nodeHeader is the boot id of who speaks: of the dialler only where there is
	// no proof, of a gateway that refuses because another one is meant.
	nodeHeader = "Kar-Node"
	// piecesHeader says, in the hello and in its answer, that who speaks takes
	// large frames in pieces.
	piecesHeader = "Kar-Pieces"
)

type hello struct {
	mesh     string
	protocol int
	version  string
	to       string
	address  string
}

func (x hello) put(h http.Header) {
	h.Set(meshHeader, x.mesh)
	h.Set(protocolHeader, strconv.Itoa(x.protocol))
	h.Set(versionHeader, x.version)
	h.Set(toHeader, x.to)
	h.Set(piecesHeader, "1")
	if x.address != "" {
		h.Set(addressHeader, x.address)
	}
}

// ServeHTTP is the accepting end of the upgrade; it returns when the stream has ended.
func (p *Peers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node, err := p.admit(w, r)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	// The answer's header is written by hand: the connection is ours from here on.
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.refuse(w, r, runtime.Errorf(runtime.CodeBadRequest, "a stream needs HTTP/1.1: %v", err))
		return
	}
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeTo + "\r\n")
	w.Header().Set(piecesHeader, "1")
	_ = w.Header().Write(&b) // a Builder takes everything
	b.WriteString("\r\n")
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err == nil {
		err = conn.SetDeadline(time.Time{}) // of the HTTP server
	}
	if err == nil {
		_, err = conn.Write([]byte(b.String()))
	}
	if err != nil {
		_ = conn.Close()
		return
	}
	s := newStream(p, node, conn, early)
	s.address = r.Header.Get(addressHeader)
	s.pieces = r.Header.Get(piecesHeader) != ""
	p.accept(s)
}

// admit says who dials. The order matters: another mesh is told apart from a
// wrong proof, and only a gateway of this mesh learns who answers.
func (p *Peers) admit(w http.ResponseWriter, r *http.Request) (node string, err error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeTo) || r.ProtoMajor != 1 {
		return "", runtime.Errorf(runtime.CodeBadRequest, "this path is for streams between gateways: Upgrade: %s over HTTP/1.1", upgradeTo)
	}
	if mesh := r.Header.Get(meshHeader); mesh != p.cfg.Mesh {
		return "", runtime.Errorf(runtime.CodeForeign, "this is a gateway of the mesh %q, not of %q", p.cfg.Mesh, clip(mesh))
	}
	if got := r.Header.Get(protocolHeader); got != strconv.Itoa(protocol) {
		return "", runtime.Errorf(runtime.CodeGatewayTooOld, "gateways of this version speak protocol %d with each other, not %q", protocol, clip(got))
	}
	if p.cfg.Verify != nil {
		node, err = p.cfg.Verify(w, r, p.cfg.Node)
	} else {
		node, err = p.loopback(w, r)
	}
	if err != nil {
		return "", err
	}
	if to := r.Header.Get(toHeader); to != p.cfg.Node {
		w.Header().Set(nodeHeader, p.cfg.Node)
		return "", &misdirectedError{clip(to)}
	}
	if node == "" || node == p.cfg.Node {
		return "", runtime.Errorf(runtime.CodeBadRequest, "a stream comes from another gateway, not from %q", clip(node))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.handler == nil {
		return "", runtime.Errorf(runtime.CodeUnavailable, "this gateway takes no streams now")
	}
	return node, nil
}

type misdirectedError struct{ meant string }

func (e *misdirectedError) Error() string { return "the gateway " + e.meant + " is not here any more" }

func (p *Peers) loopback(w http.ResponseWriter, r *http.Request) (node string, err error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return "", runtime.Errorf(runtime.CodeUnauthorized, "without a secret of the mesh, gateways of other machines are not let in")
	}
	w.Header().Set(nodeHeader, p.cfg.Node)
	return r.Header.Get(nodeHeader), nil
}

func (p *Peers) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusMisdirectedRequest
	if e := (*runtime.Error)(nil); errors.As(err, &e) {
		status = e.Code.Status()
		w.Header().Set("Kar-Error", string(e.Code))
		if e.Code == runtime.CodeForeign {
			status = http.StatusConflict
		}
		if e.Code != runtime.CodeUnauthorized { // the first half of a proof is no news
			p.cfg.Logger.Debug("a stream was refused", "from", r.RemoteAddr, "error", err)
		}
	}
	p.counts.refused.Add(1)
	w.Header().Set(meshHeader, p.cfg.Mesh)
	http.Error(w, err.Error(), status)
}

func clip(s string) string { return s[:min(len(s), 100)] }

// accept runs a connection that another gateway has dialled. An earlier one of
// the same gateway ends, and so does the stream that it belongs to; this one is
// taken for the next.
func (p *Peers) accept(s *stream) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = s.conn.Close()
		return
	}
	p.running.Add(1)
	defer p.running.Done()
	old, handler := p.in[s.node], p.handler
	p.in[s.node] = s
	m := p.members[s.node]
	if m != nil {
		select { // it is there: no need to wait
		case m.poke <- struct{}{}:
		default:
		}
	}
	p.mu.Unlock()
	if old != nil {
		old.fail(errReplaced)
	}
	if m == nil && p.cfg.Knocked != nil {
		p.cfg.Knocked(s.node, s.address)
	}
	err := s.run(func(f *frame) error { return s.serve(f, handler) })
	p.mu.Lock()
	if p.in[s.node] == s {
		delete(p.in, s.node)
	}
	p.mu.Unlock()
	p.cfg.Logger.Debug("the connection of another gateway ended", "node", s.node, "error", err)
}

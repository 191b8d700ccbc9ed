package host

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/karmesh/kar/runtime"
)

// appendRequest writes the start line and header of r. What belongs to the
// caller's connection is left out.
func appendRequest(b []byte, host string, r *appRequest) []byte {
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	named := connectionNames(r.header)
	for name, values := range r.header {
		if ownField(name) || !isToken(name) || named[name] {
			continue
		}
		for _, v := range values {
			b = append(b, name...)
			b = append(b, ": "...)
			b = appendValue(b, v)
			b = append(b, "\r\n"...)
		}
	}
	if r.kind != "" && r.header.Get("Content-Type") == "" {
		b = append(b, "Content-Type: "...)
		b = append(b, r.kind...)
		b = append(b, "\r\n"...)
	}
	if len(r.body) > 0 || r.method == "POST" || r.method == "PUT" || r.method == "PATCH" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// connectionNames are the fields that the caller's Connection field names.
func connectionNames(h runtime.Header) map[string]bool {
	var out map[string]bool
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if out == nil {
				out = map[string]bool{}
			}
			out[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return out
}

// ownField tells the fields that belong to the caller's connection or are made here.
func ownField(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "Te",
		"Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

func appendValue(b []byte, v string) []byte {
	if strings.IndexByte(v, '\n') < 0 && strings.IndexByte(v, '\r') < 0 && strings.IndexByte(v, 0) < 0 {
		return append(b, v...)
	}
	return append(b, strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(v)...)
}

// What the other end does on a connection on which nothing is due.
type condition int

const (
	silent  condition = iota
	talking           // there is something to read
	ended             // it has closed
)

// peek looks without waiting and takes nothing away.
func peek(c net.Conn) condition {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return silent
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return ended
	}
	out := ended
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			out = silent
		case err == nil && n > 0:
			out = talking
		}
		return true
	})
	if err != nil {
		return ended
	}
	return out
}

package host

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// The head of an answer is read as leniently as RFC 9112 allows: servers let pass what
// callers named, a file for example, and proxies were strict for nobody. What cannot be
// read all the same was an answer: the method has run, and is not run again.

// maxHead is the size beyond which a head is not read. It has to end somewhere.
const maxHead = 1 << 20

var (
	errHead     = errors.New("the head of the answer cannot be read")
	errLongHead = errors.New("the head of the answer is longer than a MiB")
)

// head waits until the head of an answer has come as a whole and mends it in place.
func (conn *appConn) head() error {
	for n := 1; ; {
		if _, err := conn.in.Peek(n); err != nil {
			return err
		}
		b, _ := conn.in.Peek(conn.in.Buffered())
		if end := headEnd(b); end > 0 {
			if headIsPlain(b[:end]) {
				return nil
			}
			mended, ok := mendHead(b[:end])
			if !ok {
				return errHead
			}
			copy(b[end-len(mended):end], mended)
			_, err := conn.in.Discard(end - len(mended))
			return err
		}
		if len(b) >= maxHead {
			return errLongHead
		}
		if len(b) == conn.in.Size() {
			conn.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(b)), conn.Conn), 2*len(b))
		}
		n = len(b) + 1
		quickAck(conn.Conn) // the app may wait with the rest
	}
}

// headEnd is the length of the head with the empty line that ends it, 0 when it has not all come.
func headEnd(b []byte) int {
	end := 0
	if i := bytes.Index(b, []byte("\n\r\n")); i >= 0 {
		end = i + 3
		b = b[:i+1]
	}
	if i := bytes.Index(b, []byte("\n\n")); i >= 0 {
		return i + 2
	}
	return end
}

// headIsPlain tells heads that need no mending, which are all but a few.
func headIsPlain(b []byte) bool {
	if !bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return false
	}
	for first := true; len(b) > 0; first = false {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		for _, c := range line {
			if isControl(c) {
				return false
			}
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		switch {
		case first || len(line) == 0:
		case !ok || !isToken(string(name)):
			return false
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			if string(bytes.TrimSpace(value)) != "chunked" {
				return false
			}
		case bytes.EqualFold(name, []byte("Content-Length")) && bytes.IndexByte(value, ',') >= 0:
			return false
		}
	}
	return true
}

func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// mendHead is a head that means the same and that the parser takes, not longer than b.
func mendHead(b []byte) (mended []byte, ok bool) {
	plain := bytes.Clone(b) // in whatever alphabet it is
	for i, c := range plain {
		if isControl(c) && c != '\r' && c != '\n' {
			plain[i] = ' '
		}
	}
	lines := strings.Split(strings.TrimRight(string(plain), "\r\n"), "\n")
	var out []string
	for i, line := range lines {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\r"), "\r", " ")
		if i == 0 {
			out = append(out, statusLine(line))
			continue
		}
		if line == "" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(out) > 1 {
				out[len(out)-1] += " " + strings.TrimSpace(line)
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimRight(name, " \t"), strings.TrimSpace(value)
		if !strings.Contains(line, ":") || !isToken(name) {
			continue // it names nothing
		}
		switch strings.ToLower(name) {
		case "content-length":
			value = oneOf(value)
		case "transfer-encoding":
			if strings.EqualFold(value, "identity") {
				continue
			}
			value = strings.ToLower(value)
		}
		out = append(out, name+":"+value)
	}
	mended = []byte(strings.Join(out, "\n") + "\n\n")
	return mended, len(mended) <= len(b)
}

// statusLine takes any version of HTTP for the one in which the answer came.
func statusLine(line string) string {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || version == "HTTP/1.1" || version == "HTTP/1.0" || !strings.HasPrefix(version, "HTTP/") {
		return line
	}
	status, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return "HTTP/1.1 " + status
}

// oneOf is the one value of a list that says the same again and again, else the list.
func oneOf(list string) string {
	all := strings.Split(list, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	if all = slices.Compact(all); len(all) == 1 {
		return all[0]
	}
	return list
}

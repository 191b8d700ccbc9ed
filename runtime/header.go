package runtime

import (
	"net/textproto"
	"strings"
)

// HopByHop tells the fields that belong to one connection rather than to the
// message (RFC 9110, 7.6.1). The name is canonical.
func HopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// DropHopByHop removes those and what Connection names.
func (h Header) DropHopByHop() {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for name := range h {
		if HopByHop(name) {
			delete(h, name)
		}
	}
}

// ReservedField tells the fields by which KAR speaks to callers and apps, which
// neither can pass off as KAR's. Servers of the CGI family take _ for -.
func ReservedField(name string) bool {
	return len(name) > 3 && strings.EqualFold(name[:3], "kar") && (name[3] == '-' || name[3] == '_')
}

// FieldName is the canonical form of a field's name; false when HTTP has no such name.
func FieldName(name string) (string, bool) {
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' {
			continue
		}
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return "", false
		}
	}
	return textproto.CanonicalMIMEHeaderKey(name), name != ""
}

// FieldValue is a value with blanks for what HTTP cannot carry.
func FieldValue(v string) string {
	clean := []byte(nil)
	for i := range len(v) {
		if control(v[i]) {
			if clean == nil {
				clean = []byte(v)
			}
			clean[i] = ' '
		}
	}
	if clean != nil {
		return string(clean)
	}
	return v
}

func control(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

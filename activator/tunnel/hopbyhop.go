package tunnel

import (
	"net/textproto"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// DropHopByHop removes the fields that belong to one connection rather than to
// the message: those of RFC 9110 7.6.1 and those that Connection names.
func DropHopByHop(h runtime.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for _, name := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(h, name)
	}
}

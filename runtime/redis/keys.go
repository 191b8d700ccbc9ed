package redis

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// layoutFormat is written into every partition. 1: sorted set of members.
const layoutFormat = 1

// keys are the three keys of a partition in the order of the scripts.
func partitionKeys(mesh string, partition uint16) []string {
	tag := fmt.Sprintf("kar:{%s.%d}:", keyName(mesh), partition)
	return []string{tag + "entries", tag + "meta", tag + "expiry"}
}

func membersKey(mesh string) string  { return "kar:{" + keyName(mesh) + "}:members" }
func identityKey(mesh string) string { return "kar:{" + keyName(mesh) + "}:mesh" }

// keyName keeps letters, digits, - and _ and escapes all else, so that no mesh
// can spell a key of another and the braces stay those of the hash tag.
func keyName(mesh string) string {
	var b strings.Builder
	for i := range len(mesh) {
		c := mesh[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// identity is what every partition's meta says.
func identity(mesh string, partitions int) string {
	return fmt.Sprintf("mesh %s partitions %d format %d", keyName(mesh), partitions, layoutFormat)
}

// A member is: the key with each 00 written as 00 ff; 00 01; a byte that is 0,
// or 1 and the Unix second of expiry in 8 bytes; the value. So members sort as
// their keys do, and what starts with a key's prefix is one range.

func escape(key []byte) []byte {
	if bytes.IndexByte(key, 0) < 0 {
		return key
	}
	b := make([]byte, 0, len(key)+8)
	for _, c := range key {
		b = append(b, c)
		if c == 0 {
			b = append(b, 0xff)
		}
	}
	return b
}

func unescape(key []byte) []byte {
	if bytes.IndexByte(key, 0) < 0 {
		return key
	}
	b := make([]byte, 0, len(key))
	for i := 0; i < len(key); i++ {
		b = append(b, key[i])
		if key[i] == 0 {
			i++
		}
	}
	return b
}

// sealValue is what a member has behind the end of its key.
func sealValue(value []byte, expires int64) []byte {
	if expires == 0 {
		return append([]byte{0}, value...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{1}, uint64(expires)), value...)
}

// splitMember returns the escaped key and the value.
func splitMember(member string) (key, value string, ok bool) {
	key, rest, ok := strings.Cut(member, "\x00\x01")
	switch {
	case !ok || rest == "":
		return "", "", false
	case rest[0] == 0:
		return key, rest[1:], true
	case len(rest) >= 9:
		return key, rest[9:], true
	}
	return "", "", false
}

// prefixRange are the bounds of everything under an escaped prefix, as
// ZRANGEBYLEX wants them. The mark of the set is outside of every range.
func prefixRange(prefix []byte) (lower, upper string) {
	lower, upper = "["+string(prefix), "+"
	if len(prefix) == 0 {
		lower = "(" // behind the mark, which is empty
	}
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			upper = "(" + string(prefix[:i]) + string([]byte{prefix[i] + 1})
			break
		}
	}
	return lower, upper
}

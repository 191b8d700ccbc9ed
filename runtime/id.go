package runtime

import (
	"encoding/base32"
	"encoding/binary"
	"hash/fnv"
)

// An ID names a request for ever. It carries, in 16 bytes, the time it was
// made (48 bits of Unix milliseconds), its home partition (16 bits), a hash of
// its app (16 bits) and 48 random bits, so that anybody who holds an id knows
// whom to ask for the outcome and when to stop asking.
type ID [16]byte

// NewID makes an id. The caller supplies time and chance: this package has neither.
func NewID(unixMilli int64, partition uint16, app string, random [6]byte) ID {
	var id ID
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(unixMilli))
	copy(id[0:6], t[2:])
	binary.BigEndian.PutUint16(id[6:8], partition)
	binary.BigEndian.PutUint16(id[8:10], appHash(app))
	copy(id[10:], random[:])
	return id
}

// Millis is the Unix time in milliseconds at which the id was made.
func (id ID) Millis() int64 {
	var t [8]byte
	copy(t[2:], id[0:6])
	return int64(binary.BigEndian.Uint64(t[:]))
}

// Partition is the home of the request: the partition that first accepts it.
func (id ID) Partition() uint16 { return binary.BigEndian.Uint16(id[6:8]) }

// in is the same id for another home.
func (id ID) in(partition uint16) ID {
	binary.BigEndian.PutUint16(id[6:8], partition)
	return id
}

// OfApp tells whether the id can have been made for app.
func (id ID) OfApp(app string) bool { return binary.BigEndian.Uint16(id[8:10]) == appHash(app) }

// IsZero reports the absence of an id.
func (id ID) IsZero() bool { return id == ID{} }

// String is the 26 lower-case characters that users see. It sorts by time.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// appendTo is String without an allocation of its own.
func (id ID) appendTo(b []byte) []byte { return idText.AppendEncode(b, id[:]) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 26 {
		return id, Errorf(CodeBadID, "%q is not a request id", clip(s, 40))
	}
	n, err := idText.Decode(id[:], []byte(s))
	if err != nil || n != len(id) {
		return ID{}, Errorf(CodeBadID, "%q is not a request id", clip(s, 40))
	}
	return id, nil
}

var idText = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func appHash(app string) uint16 { return uint16(hash64(app)) }

// hash64 is the hash by which partitions, hosts and ids are chosen. It must
// never change: placement of data depends on it.
func hash64(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	// FNV leaves the high bits poorly mixed for short strings; finish as
	// MurmurHash3 does (public domain constants).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}

// PartitionOf is the partition of a target: an actor by app, type and id, a
// keyed service request by app, service and key, any other by its own id.
func PartitionOf(t Target, key string, id ID, partitions int) uint16 {
	switch {
	case t.IsActor():
		return ActorPartition(t.Actor(), partitions)
	case key != "":
		return uint16(hash64("k", t.App, t.Service, key) % uint64(partitions))
	case id.IsZero():
		return 0
	default:
		return uint16(binary.BigEndian.Uint32(id[12:16]) % uint32(partitions))
	}
}

// ActorPartition is where an actor's requests, state, reminders and subscriptions live.
func ActorPartition(a Actor, partitions int) uint16 {
	return uint16(hash64("a", a.App, a.Type, a.ID) % uint64(partitions))
}

// AppPartition is where the facts about an app live.
func AppPartition(app string, partitions int) uint16 {
	return uint16(hash64("f", app) % uint64(partitions))
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

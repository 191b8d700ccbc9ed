// Package peer has the streams between the gateways of a mesh: they carry what
// runtime/engine says in peers.go.
//
// A gateway dials each of the others. What it asks and tells goes over the
// connection that it dialled, and so do the answers; what others ask and tell
// comes over the connections that they dialled. So nobody has to agree on who
// dials, and each finds out for itself whether another one is there. The two
// connections of a pair are one stream: it stands when both do, and the end of
// one is the end of the other, so both gateways see it break and begin anew.
//
// A connection begins as an HTTP/1.1 upgrade at the gateway's own address, and
// is a sequence of frames from then on.
package peer

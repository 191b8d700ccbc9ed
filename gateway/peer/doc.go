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
//
// # What waits for what
//
// Each app has a lane for its ops, their cancels and answers and for the notes
// about its hosts and to them, and each pair of partitions one for their messages.
// Lanes take turns of 64 KiB; what is larger goes in pieces of that size, if the
// other gateway has said in the hello that it takes them (else as a whole, in its
// turn). Everything else goes first: beats and their answers, who owns what,
// hand-overs, confirmations, questions between partitions. So the bodies of one
// app stand in front of nothing but what else that app has to say.
//
// The receivers rely on these orders, and on no others:
//   - What is told of the hosts of one app and to them, with the app's ops. What a
//     join does not name is unknown, and started again: it must not overtake the
//     invocation that went before the question; of two joins the last counts; a call
//     comes before the answer of its caller; an outcome is released after the last
//     repeat of its request.
//   - The numbered messages of one partition to another: only the next is taken.
//   - What goes first, among itself: the last word of who owns what is the truth,
//     and "lost" comes after an earlier "kept".
//   - A question about a request after the submit: nobody is told that it is
//     unknown while it waits here. The question may name no app; it goes to the
//     lane where the submit waits.
//   - A cancel after its op; one that is given up before it has begun is not sent.
//
// Answers go over the connection on which they were asked for, so they never had
// an order with the notes of their sender; among themselves they need none.
//
// A lane takes a sixteenth of Config.QueueLimit. Then its ops wait with those who
// ask, and large answers are lost and asked for again. Notes are never held back:
// those with bodies are bounded by what an app may have unfinished.
package peer

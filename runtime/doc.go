// Package runtime holds the rules of KAR for one partition: what is accepted,
// what runs next, what a lost host means, what a tail call does to a lock.
//
// The rules are a pure function. A [Core] takes one [Input] and the time, and
// returns records (decisions, to be made durable) and effects (to be carried
// out once everything before them is durable). There is no I/O here, no clock,
// no goroutine and no randomness: the engine in runtime/engine supplies them,
// and the simulator in runtime/runtimetest supplies others.
//
// The package also states the contracts that a backend keeps: [Log], [Store]
// and [Topics]; and the two halves of the conversation with the processes that
// run user code: [Owners] (what hosts tell us) and [Link] (what we tell hosts).
package runtime

// Package guard starts the user's command in such a way that its end can be
// proved. `kar run` is two small processes: the sidecar, and the guard, which is
// the parent and (on Linux) the sub-reaper of the command's process tree. They
// watch each other over a socket pair. When one dies the other kills the tree,
// and the exit is reported to the gateway at once, so that a retry can start.
//
// Not covered: sidecar and guard killed in the same instant. Then, on Linux,
// the direct child still dies with the guard, but what it started may live on.
package guard

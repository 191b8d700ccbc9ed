package host

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// An answer without a length ends with its connection, and so does a process that is
// killed in the middle of it. It is whole when the process lived after that end: who
// dies has begun to before the kernel closes what it held.

// A Witness sees the processes that listen where the app does. Calls may come from
// any goroutine.
type Witness interface {
	// Meet notes who listens; for use before a request is sent.
	Meet()
	// Answers notes who holds the other end of the connection to the app from a
	// local port. Lived tells, once that connection has ended, whether it was ended
	// by who lives; known is false when that cannot be seen.
	Answers(port int) (lived func() (yes, known bool))
	// Programs notes which programs listen. Replaced tells later whether one that
	// listens then has begun since, in a new process or in place of another in the
	// same one; known is false when none can be seen.
	Programs() (replaced func() (yes, known bool))
	// Backlog is how many connections to the app wait to be accepted, and how many may.
	Backlog() (waiting, most int, known bool)
}

var errCut = errors.New("the connection ended without saying how long the answer is, and whoever answered may have died")

// lookBefore has the witness see who may answer, once answers end with their
// connections.
func (c *http1) lookBefore() {
	if c.witness != nil && c.endless.Load() {
		c.witness.Meet()
	}
}

// lookAt has the witness see who is answering.
func (c *http1) lookAt(conn *appConn) {
	conn.open = true
	c.endless.Store(true)
	if c.witness != nil {
		conn.lived = c.witness.Answers(conn.LocalAddr().(*net.TCPAddr).Port)
	}
}

// whole tells whether an answer that has ended with its connection is complete.
func (conn *appConn) whole(ctx context.Context) bool {
	if conn.lived != nil {
		if yes, known := conn.lived(); known {
			return yes
		}
	}
	return listensOn(ctx, conn.RemoteAddr().String())
}

// listensOn tells whether the process that listens goes on to. A connection that
// says nothing is closed by who accepts it, after the end that is in question. Where
// a process dies the kernel resets what nobody has accepted. An app that is too busy
// for either within exitGrace is taken as alive: who dies has no such pauses.
func listensOn(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, exitGrace)
	defer cancel()
	question, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return errors.Is(ctx.Err(), context.DeadlineExceeded)
	}
	defer question.Close()
	if half, ok := question.(*net.TCPConn); !ok || half.CloseWrite() != nil {
		return false
	}
	deadline, _ := ctx.Deadline()
	_ = question.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = question.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	n, err := question.Read(make([]byte, 1))
	switch {
	case n > 0 || errors.Is(err, io.EOF):
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return !errors.Is(ctx.Err(), context.Canceled)
	}
	return !errors.Is(err, syscall.ECONNRESET)
}

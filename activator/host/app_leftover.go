package host

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Some apps write a body behind an answer that has none by HTTP (204, 304, HEAD),
// in a moment of their own. On a connection that is used again it would be read as
// the beginning of another request's answer. So the first such answers of a route
// end their connections, and are watched to the end of the stream: a route after
// which nothing came is trusted.
type leftovers struct {
	clean   map[string]int // answers of a route after which nothing came
	watched int            // connections under watch
}

const (
	enoughClean = 8
	// Beyond these a connection is closed without a look, and no route is trusted.
	mostRoutes  = 1000
	mostWatched = 64
	watchLimit  = 5 * time.Second
)

// bodiless tells answers that end with their header, whatever they announce.
func bodiless(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

// route is what requests have in common that the same code of the app answers: an
// actor's id and the query are left out.
func (r *appRequest) route() string {
	path, _, _ := strings.Cut(r.path, "?")
	if r.actor == nil {
		return r.method + " " + path
	}
	return r.method + " " + r.actor.Type + " " + strings.TrimPrefix(path, actorPath(*r.actor))
}

// mayHaveMore ends a connection on which something may follow the answer to r. It
// tells whether it did: such a connection is not to be put back.
func (c *http1) mayHaveMore(conn *appConn, r *appRequest, status int) bool {
	if !bodiless(r.method, status) {
		return false
	}
	route := r.route()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left.clean[route] >= enoughClean {
		return false
	}
	half, ok := conn.Conn.(*net.TCPConn)
	if c.excess || c.closed || !ok || c.left.watched == mostWatched || half.CloseWrite() != nil {
		c.drop(conn)
		return true
	}
	c.left.watched++
	go c.watch(conn, route) // ends with the connection, which is in open
	return true
}

// exceeds notes that the app has written more than it announced; c.mu is held.
func (c *http1) exceeds() {
	if !c.excess {
		c.excess = true
		c.warn("the app writes more than the Content-Length or the status of its answer allows; from now on each request to it gets a connection of its own")
	}
}

// watch reads what the app still writes after we have said that nothing follows.
func (c *http1) watch(conn *appConn, route string) {
	_ = conn.SetReadDeadline(time.Now().Add(watchLimit)) // without it we would only wait longer
	n, err := conn.in.Read(make([]byte, 1))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left.watched--
	switch {
	case n > 0:
		c.exceeds()
	case errors.Is(err, io.EOF) && (len(c.left.clean) < mostRoutes || c.left.clean[route] > 0):
		c.left.clean[route]++
	}
	c.drop(conn)
}

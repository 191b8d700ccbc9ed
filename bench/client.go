package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A conn is one kept-alive HTTP/1.1 connection that sends one request at a
// time. It does as little as a client can, so that what is measured is the
// server; all contenders are loaded with it.
type conn struct {
	network, addr string
	c             net.Conn
	r             *bufio.Reader
	out           []byte
	body          []byte
}

func newConn(network, addr string) *conn { return &conn{network: network, addr: addr} }

func (c *conn) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// do sends one request and returns the status and the body, which is valid
// until the next call. An error leaves the connection closed; the next call dials.
func (c *conn) do(method, path, header string, body []byte) (int, []byte, error) {
	if c.c == nil {
		nc, err := net.DialTimeout(c.network, c.addr, 5*time.Second)
		if err != nil {
			return 0, nil, err
		}
		c.c = nc
		c.r = bufio.NewReaderSize(nc, 8<<10)
	}
	c.out = append(c.out[:0], method...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: bench\r\n"...)
	c.out = append(c.out, header...)
	if len(body) > 0 {
		c.out = append(c.out, "Content-Length: "...)
		c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
		c.out = append(c.out, "\r\n"...)
	} else if method != http.MethodGet && method != http.MethodHead {
		c.out = append(c.out, "Content-Length: 0\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, body...)
	if _, err := c.c.Write(c.out); err != nil {
		c.close()
		return 0, nil, err
	}
	status, err := c.answer(method)
	if err != nil {
		c.close()
	}
	return status, c.body, err
}

func (c *conn) line() ([]byte, error) {
	l, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(l, "\r\n"), nil
}

func (c *conn) answer(method string) (int, error) {
	c.body = c.body[:0]
	l, err := c.line()
	if err != nil {
		return 0, err
	}
	if len(l) < 12 || !bytes.HasPrefix(l, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("not an HTTP/1.1 answer: %q", l)
	}
	status, err := strconv.Atoi(string(l[9:12]))
	if err != nil {
		return 0, err
	}
	length, chunked, last := -1, false, false
	for {
		if l, err = c.line(); err != nil {
			return status, err
		}
		if len(l) == 0 {
			break
		}
		name, value, _ := bytes.Cut(l, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return status, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	switch {
	case method == http.MethodHead || status == 204 || status == 304:
	case chunked:
		err = c.chunks()
	case length >= 0:
		err = c.take(length)
	default:
		err = errors.New("answer without a length")
	}
	if last {
		c.close()
	}
	return status, err
}

func (c *conn) take(n int) error {
	at := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.r, c.body[at:])
	return err
}

func (c *conn) chunks() error {
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(l), 16, 32)
		if err != nil {
			return err
		}
		if err := c.take(int(n)); err != nil {
			return err
		}
		if _, err := c.line(); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

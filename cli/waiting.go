package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sayAfter is how long a call waits before people are told what it waits for.
const sayAfter = time.Second

// A missing component, as GET /missing lists it.
type missing struct {
	Component string `json:"component"`
	Kind      string `json:"kind"`
	Waiting   int    `json:"waiting"`
}

// line says what is missing and the command that would provide it.
func (m missing) line(app string) string {
	what, flag := "service", "-service"
	if m.Kind == "actor" {
		what, flag = "actor type", "-actors"
	}
	requests := "request waits"
	if m.Waiting != 1 {
		requests = "requests wait"
	}
	return fmt.Sprintf("kar: waiting: %d %s for the %s %q of app %q, which no component offers; start one: kar run -app %s %s %s -- COMMAND",
		m.Waiting, requests, what, m.Component, app, shellWord(app), flag, shellWord(m.Component))
}

// shellWord quotes a name for a shell when it needs it.
func shellWord(s string) string {
	const plain = "-_.+0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// missingNow asks the gateway what the app waits for.
func (c *client) missingNow(ctx context.Context) ([]missing, error) {
	var got struct{ Missing []missing }
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	a, err := c.once(ctx, http.MethodGet, c.path("missing"), http.Header{"Accept": {"application/json"}}, nil)
	if err != nil {
		return nil, err
	}
	err = decodeJSON(a, &got)
	return got.Missing, err
}

// sayWhileWaiting tells, on w, what a call that takes over a second waits for.
// The returned function ends it.
func (c *client) sayWhileWaiting(ctx context.Context, w io.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		said := map[string]bool{}
		for pause := sayAfter; ; pause = min(2*pause, 10*time.Second) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			list, err := c.missingNow(ctx)
			if err != nil {
				continue
			}
			for _, m := range list {
				if key := m.Kind + " " + m.Component; !said[key] {
					said[key] = true
					fmt.Fprintln(w, m.line(c.app))
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// exitInterrupted is what shells report for a process that SIGINT ended.
const exitInterrupted = 130

// call sends a call and says what it waits for. Ctrl-C ends the wait only; that
// the call goes on, and how it is withdrawn, is said then.
func (p *program) call(ctx context.Context, c *client, method, path string, header http.Header, body []byte) (*answer, error) {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt)
	defer restore()
	stop := c.sayWhileWaiting(ctx, p.errout)
	a, err := c.do(ctx, method, path, header, body)
	stop()
	if err != nil && ctx.Err() != nil {
		fmt.Fprintf(p.errout, "kar: interrupted: if the call was accepted, it goes on; kar cancel -app %s --all withdraws all calls of the app that have not started\n", shellWord(c.app))
		return nil, exitError{exitInterrupted}
	}
	return a, err
}

// A waitingLog is the same for `kar run`: it says once in a while what calls of
// the component wait for.
type waitingLog struct {
	client *client
	out    io.Writer
	ctx    context.Context
	wait   sync.WaitGroup

	mu   sync.Mutex
	busy bool
	said map[string]time.Time
}

// sayAgain is the pause between two lines about the same component.
const sayAgain = time.Minute

// note is called for each call that has waited for a second; it does not block.
func (l *waitingLog) note() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.ctx.Err() != nil {
		return
	}
	l.busy = true
	l.wait.Go(l.look)
}

func (l *waitingLog) look() {
	ctx, cancel := context.WithTimeout(l.ctx, 2*time.Second)
	defer cancel()
	list, err := l.client.missingNow(ctx)
	if err != nil {
		list = nil
	}
	for _, m := range l.news(list) {
		fmt.Fprintln(l.out, m.line(l.client.app))
	}
}

// news are those of which nothing was said for a while; another look may begin.
func (l *waitingLog) news(list []missing) (out []missing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	now := time.Now()
	for _, m := range list {
		key := m.Kind + strconv.Quote(m.Component)
		if last, ok := l.said[key]; ok && now.Sub(last) < sayAgain {
			continue
		}
		l.said[key] = now
		out = append(out, m)
	}
	return out
}

package cli

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// askEvery is how long an answer is waited for on one connection alone. What is between
// may have forgotten a connection, or forward nothing more, and still keep it: nobody is
// told of that.
const askEvery = 30 * time.Second

// ask sends a request that may be repeated, and again on another connection each time
// that no answer has come for askEvery; the two latest are waited for. A gateway that
// refuses a repetition, since it is overloaded or stops, says nothing about the first.
func (c *client) ask(ctx context.Context, method, path string, header http.Header, body []byte) (*answer, error) {
	type result struct {
		asked *asked
		a     *answer
		err   error
	}
	every := c.askEvery
	if every == 0 {
		every = askEvery
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results // soon, for its context has ended
		}
	}()
	var waiting []*asked
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		one := &asked{}
		var mine context.Context
		mine, one.forget = context.WithCancel(ctx)
		waiting = append(waiting, one)
		running++
		go func() { // ask waits for its end
			a, err := c.once(mine, method, path, header, body)
			one.forget()
			results <- result{one, a, err}
		}()
		if len(waiting) > 2 {
			waiting[0].forget()
			waiting = waiting[1:]
		}
		for repeat := false; !repeat; {
			select {
			case <-again.C:
				repeat = true
			case r := <-results:
				running--
				i := slices.Index(waiting, r.asked)
				switch {
				case i < 0: // one that was forgotten
				case len(waiting) > 1 && (r.err != nil || refusedByGateway(r.a) || refusedForNow(r.a) || ofProxy(r.a)):
					waiting = slices.Delete(waiting, i, i+1)
				default:
					return r.a, r.err
				}
			}
		}
	}
}

// asked is a request whose answer is waited for.
type asked struct{ forget context.CancelFunc }

// ofProxy: what is between has given up, and says nothing about the request. The answers of
// a gateway and of an app name the request, or the error.
func ofProxy(a *answer) bool {
	switch a.status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a.header.Get("Kar-Error") == "" && a.header.Get("Kar-Request-Id") == ""
	}
	return false
}

// refusedForNow: the gateway takes no more for the moment.
func refusedForNow(a *answer) bool {
	return a.status == http.StatusTooManyRequests && a.header.Get("Kar-Error") != ""
}

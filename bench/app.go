package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bench app hosts the actor type Bench on plain net/http, as an
// application without any SDK does.
//
//	echo   returns its argument
//	touch  reads one state key and writes it, through the sidecar
//	due    notes how late it is against its argument, Unix milliseconds
//	stall  answers when its attempt began, Unix microseconds; the first attempt
//	       waits until it is released
type benchApp struct {
	sidecar sync.Pool // of *conn to the sidecar

	mu    sync.Mutex
	late  []time.Duration // one for each call of due
	first time.Time       // arrival of the first and the last of them
	last  time.Time

	stalled map[string]chan struct{} // actors whose first attempt waits
}

// What the app answers on /bench/stalled.
type stalledActors struct {
	PID    int
	Actors []string
}

// runApp serves until the process is killed.
func runApp() error {
	port := os.Getenv("KAR_APP_PORT")
	a := &benchApp{stalled: map[string]chan struct{}{}}
	a.sidecar.New = func() any { return newConn("tcp", "127.0.0.1:"+os.Getenv("KAR_RUNTIME_PORT")) }
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return http.Serve(l, a)
}

func (a *benchApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/bench/late":
		a.report(w)
		return
	case "/bench/count":
		a.mu.Lock()
		defer a.mu.Unlock()
		fmt.Fprint(w, len(a.late))
		return
	case "/bench/stalled":
		a.mu.Lock()
		defer a.mu.Unlock()
		json.NewEncoder(w).Encode(stalledActors{os.Getpid(), slices.Sorted(maps.Keys(a.stalled))})
		return
	case "/bench/release":
		a.mu.Lock()
		defer a.mu.Unlock()
		for actor, c := range a.stalled {
			close(c)
			delete(a.stalled, actor)
		}
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/kar/impl/v1/actor/"), "/")
	if r.Method != http.MethodPost || len(parts) != 3 {
		return // the type is known, every instance is welcome, goodbye to any
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch parts[2] {
	case "touch":
		err = a.touch(parts[0], parts[1])
		body = []byte("true")
	case "stall":
		body = strconv.AppendInt(nil, time.Now().UnixMicro(), 10)
		if r.Header.Get("Kar-Attempt") == "1" {
			a.stall(parts[1])
		}
	case "due":
		a.due(body)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = []string{"application/kar+json"}
	w.Write(append(append([]byte(`{"value":`), body...), '}'))
}

func (a *benchApp) touch(typ, id string) error {
	c := a.sidecar.Get().(*conn)
	defer a.sidecar.Put(c)
	path := "/kar/v1/actor/" + typ + "/" + id + "/state/n"
	status, body, err := c.do("GET", path+"?nilOnAbsent=true", "", nil)
	if err != nil || status != 200 {
		return fmt.Errorf("state read: %d %w", status, err)
	}
	n, _ := strconv.Atoi(string(body))
	status, _, err = c.do("PUT", path, "Content-Type: application/json\r\n", strconv.AppendInt(nil, int64(n+1), 10))
	if err != nil || status >= 300 {
		return fmt.Errorf("state write: %d %w", status, err)
	}
	return nil
}

func (a *benchApp) stall(actor string) {
	c := make(chan struct{})
	a.mu.Lock()
	a.stalled[actor] = c
	a.mu.Unlock()
	<-c
}

func (a *benchApp) due(body []byte) {
	now := time.Now()
	var args []int64
	if json.Unmarshal(body, &args) != nil || len(args) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.late) == 0 {
		a.first = now
	}
	a.last = now
	a.late = append(a.late, now.Sub(time.UnixMilli(args[0])))
}

// lateness is what the app answers on /bench/late; asking empties it.
type lateness struct {
	Count          int
	P50, P99, Max  time.Duration
	Early          int // firings before their due time
	FirstUS, EndUS int64
}

func (a *benchApp) report(w http.ResponseWriter) {
	a.mu.Lock()
	late, first, last := a.late, a.first, a.last
	a.late = nil
	a.mu.Unlock()
	slices.Sort(late)
	out := lateness{Count: len(late), P50: quantile(late, 0.5), P99: quantile(late, 0.99), Max: quantile(late, 1), FirstUS: first.UnixMicro(), EndUS: last.UnixMicro()}
	for _, l := range late {
		if l < 0 {
			out.Early++
		}
	}
	json.NewEncoder(w).Encode(out)
}

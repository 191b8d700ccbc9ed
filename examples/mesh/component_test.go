package mesh_test

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// playComponent is a component in this binary: actors of type T and a service.
// It never returns. Every run of theirs is seen by the witness.
//
//	T.add [key, ms]    runs for ms, and adds one to the number in the state of the actor
//	T.touch [key, ms]  the same without state
//	T.stamp [key, ms]  as touch; no two runs give the same answer
//	T.die [key, ms]    runs for ms and kills its process
//	T.odd… [key, ms]   as touch, with an answer of which HTTP would not approve
//	/work [key, ms]    the service
func playComponent(witness string) {
	c := &played{witness: witness, api: "http://127.0.0.1:" + os.Getenv("KAR_RUNTIME_PORT") + "/kar/v1"}
	mux := http.NewServeMux()
	mux.HandleFunc("HEAD /kar/impl/v1/actor/T", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /kar/impl/v1/actor/T/{id}", func(_ http.ResponseWriter, r *http.Request) { c.note("activated", r.PathValue("id")) })
	mux.HandleFunc("DELETE /kar/impl/v1/actor/T/{id}", func(_ http.ResponseWriter, r *http.Request) { c.note("deactivated", r.PathValue("id")) })
	mux.HandleFunc("POST /kar/impl/v1/actor/T/{id}/{method}", func(w http.ResponseWriter, r *http.Request) {
		id, method := r.PathValue("id"), r.PathValue("method")
		key, err := c.run(r, "T/"+id, func() error {
			if method == "add" {
				return c.add(id)
			}
			return nil
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		switch {
		case method == "stamp":
			key += " " + rand.Text()
		case method == "die":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case strings.HasPrefix(method, "odd"):
			c.odd(w, r, method, `{"value":"`+key+`"}`)
			return
		}
		w.Header().Set("Content-Type", "application/kar+json")
		_ = json.NewEncoder(w).Encode(map[string]any{"value": key})
	})
	mux.HandleFunc("POST /work", func(w http.ResponseWriter, r *http.Request) {
		key, err := c.run(r, "", func() error { return nil })
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, key)
	})
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("KAR_APP_PORT"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening", os.Getpid())
	c.server = &http.Server{Handler: mux}
	_ = c.server.Serve(l)
	os.Exit(1)
}

type played struct {
	witness, api string
	server       *http.Server
}

// note tells the witness what became of an actor.
func (c *played) note(what, id string) {
	conn, err := net.Dial("unix", c.witness)
	if err != nil {
		return // the test has ended
	}
	defer conn.Close()
	fmt.Fprintf(conn, "note %s T/%s %d\n", what, id, os.Getpid())
	_, _ = bufio.NewReader(conn).ReadString('\n')
}

// run is one attempt of a request, with a connection to the witness open for
// as long as it lasts. The account is what must not run twice at a time; ""
// stands for the request itself.
func (c *played) run(r *http.Request, account string, work func() error) (string, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	var key string
	var ms int
	if err := json.Unmarshal(body, &[]any{&key, &ms}); err != nil {
		return "", fmt.Errorf("arguments %q: %w", body, err)
	}
	if account == "" {
		account = "key/" + key
	}
	conn, err := net.Dial("unix", c.witness)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s %d %s\n", account, key, os.Getpid(), r.Header.Get("Kar-Attempt"))
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		return "", fmt.Errorf("the witness has gone: %w", err)
	}
	time.Sleep(time.Duration(ms) * time.Millisecond) // what the caller asked for
	if err := work(); err != nil {
		return "", err
	}
	_, err = io.WriteString(conn, "end\n")
	return key, err
}

// add reads, adds one and writes; a store that is away is asked again.
func (c *played) add(id string) error {
	url := c.api + "/actor/T/" + id + "/state/n"
	_, text, err := c.insist(http.MethodGet, url+"?nilOnAbsent=true", "")
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(text)
	_, _, err = c.insist(http.MethodPut, url, strconv.Itoa(n+1))
	return err
}

func (c *played) insist(method, url, body string) (int, string, error) {
	for end := time.Now().Add(time.Minute); ; {
		status, text, err := c.once(method, url, body)
		if err == nil && status < 300 {
			return status, text, nil
		}
		if err == nil && status != http.StatusServiceUnavailable || time.Now().After(end) {
			return status, text, fmt.Errorf("%s %s: %d %s %w", method, url, status, text, err)
		}
		time.Sleep(50 * time.Millisecond) // before it is asked again
	}
}

func (c *played) once(method, url, body string) (int, string, error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Command greeter-go is a KAR component on plain net/http, without any SDK: a
// service that greets, and an actor type whose instances remember how often
// they were visited.
//
//	kar run -app hello -service greeter -actors Visitor -- greeter-go
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /helloJson", helloJSON)
	mux.HandleFunc("POST /helloText", helloText)

	v := &visitors{sidecar: "http://127.0.0.1:" + os.Getenv("KAR_RUNTIME_PORT")}
	// What a component with actors serves: is the type known, activate, call, deactivate.
	mux.HandleFunc("HEAD /kar/impl/v1/actor/Visitor", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /kar/impl/v1/actor/Visitor/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("DELETE /kar/impl/v1/actor/Visitor/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /kar/impl/v1/actor/Visitor/{id}/visit", v.visit)
	mux.HandleFunc("POST /kar/impl/v1/actor/Visitor/{id}/slow", v.slow)

	port := os.Getenv("KAR_APP_PORT")
	if port == "" {
		port = "8080"
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(l, mux))
}

func helloJSON(w http.ResponseWriter, r *http.Request) {
	var who struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(r.Body).Decode(&who); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"greetings": "Hello " + who.Name + "!"})
}

func helloText(w http.ResponseWriter, r *http.Request) {
	name, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "Hello %s!", name)
}

// visit counts and answers {"value":{"visits":n}}.
func (v *visitors) visit(w http.ResponseWriter, r *http.Request) {
	n, err := v.count(r.Context(), r.PathValue("id"), r.Header.Get("Kar-Idempotency-Key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	value(w, map[string]any{"visits": n})
}

// slow counts first and then takes its time, so that somebody can kill this
// process in the middle. Arguments: [seconds].
func (v *visitors) slow(w http.ResponseWriter, r *http.Request) {
	var args []float64
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil || len(args) != 1 {
		http.Error(w, "the argument is a number of seconds", http.StatusBadRequest)
		return
	}
	attempt := r.Header.Get("Kar-Attempt")
	fmt.Printf("attempt %s starts in process %d\n", attempt, os.Getpid())
	n, err := v.count(r.Context(), r.PathValue("id"), r.Header.Get("Kar-Idempotency-Key"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	time.Sleep(time.Duration(args[0] * float64(time.Second)))
	fmt.Printf("attempt %s ends in process %d\n", attempt, os.Getpid())
	value(w, map[string]any{"attempt": attempt, "visits": n})
}

func value(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/kar+json")
	json.NewEncoder(w).Encode(map[string]any{"value": v})
}

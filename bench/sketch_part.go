package main

import (
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// callHeader goes with every actor call.
const callHeader = "Content-Type: application/kar+json\r\n"

// call sends the n-th echo to one of the given number of actors and checks the answer.
func call(prefix string, actors int, method string) step {
	want := `{"value":` + argument + `}`
	if method == "touch" {
		want = `{"value":true}`
	}
	return func(c *conn, n int) error {
		path := fmt.Sprintf("%s/kar/v1/actor/Bench/a%d/call/%s", prefix, n%actors, method)
		status, body, err := c.do("POST", path, callHeader, []byte(argument))
		if err != nil {
			return err
		}
		if status != 200 || string(body) != want {
			return fmt.Errorf("%s: wrong answer %d %.200q", path, status, body)
		}
		return nil
	}
}

// callActors sends the n-th echo to one of the given actors and checks the answer.
func callActors(prefix string, actors []string) step {
	want := `{"value":` + argument + `}`
	return func(c *conn, n int) error {
		path := prefix + "/kar/v1/actor/Bench/" + actors[n%len(actors)] + "/call/echo"
		status, body, err := c.do("POST", path, callHeader, []byte(argument))
		if err == nil && (status != 200 || string(body) != want) {
			err = fmt.Errorf("%s: wrong answer %d %.200q", path, status, body)
		}
		return err
	}
}

// sketch measures the gateway without rules.
func (b *bench) sketch() error {
	api, attach, side, appPort := "127.0.0.1:"+freePort(), "127.0.0.1:"+freePort(), "127.0.0.1:"+freePort(), freePort()
	gw, err := start(b.dir, "sketch-gateway", nil, b.self, "sketch-gateway", api, attach, filepath.Join(b.dir, "sketch.log"))
	if err != nil {
		return err
	}
	defer gw.end(syscall.SIGKILL)
	app, err := start(b.dir, "sketch-app", []string{"KAR_APP_PORT=" + appPort}, b.self, "app")
	if err != nil {
		return err
	}
	defer app.end(syscall.SIGKILL)
	for _, addr := range []string{api, attach, "127.0.0.1:" + appPort} {
		if _, err := until(b.ctx, addr, func() bool { return listening(addr) }); err != nil {
			return err
		}
	}
	sc, err := start(b.dir, "sketch-sidecar", nil, b.self, "sketch-sidecar", side, attach, "127.0.0.1:"+appPort)
	if err != nil {
		return err
	}
	defer sc.end(syscall.SIGKILL)
	if _, err := until(b.ctx, side, func() bool { return listening(side) }); err != nil {
		return err
	}
	for _, p := range []struct {
		name, addr string
		one, many  *figure
	}{{"gateway", api, &b.sketchAPI1, &b.sketchAPI}, {"sidecar", side, &b.sketchSide1, &b.sketchSide}} {
		for _, clients := range []int{1, 128} {
			f, err := load("tcp", p.addr, clients, b.length(time.Second), b.length(8*time.Second), 0, call("", 1000, "echo"))
			if err != nil {
				return fmt.Errorf("%w\n%s%s", err, gw.tail(), sc.tail())
			}
			if clients == 1 {
				*p.one = f
			} else {
				*p.many = f
			}
			b.row(fmt.Sprintf("sketch, through the %s, %d clients", p.name, clients), f.String(), "", "")
		}
	}
	return nil
}

// Command rivals is the handler that Restate calls in the comparison: a keyed
// object that returns its argument. It is a module of its own so that KAR does
// not depend on another system's SDK.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"

	restate "github.com/restatedev/sdk-go"
	"github.com/restatedev/sdk-go/server"
)

type Bench struct{}

func (Bench) Echo(_ restate.ObjectContext, argument json.RawMessage) (json.RawMessage, error) {
	return argument, nil
}

func main() {
	err := server.NewRestate().Bind(restate.Reflect(Bench{})).Start(context.Background(), "127.0.0.1:"+os.Getenv("PORT"))
	log.Fatal(err)
}

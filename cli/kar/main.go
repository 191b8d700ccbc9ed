// The kar command.
package main

import (
	"os"

	"github.com/karmesh/kar/cli"
)

// version is stamped by the linker: -X main.version=v2.0.0.
var version = ""

func main() {
	os.Exit(cli.Main(version, os.Args[1:]))
}

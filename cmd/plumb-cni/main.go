// Command plumb-cni is every plugin and cnitool, by the name that it is called by.
package main

import (
	"fmt"
	"os"
)

// Stamped by scripts/build.
var (
	version = "0.0.0"
	commit  = "unknown"
)

// programs are the names that this binary answers to; scripts/build makes a link for each.
var programs = []string{"cnitool"}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		for _, name := range programs {
			fmt.Println(name)
		}
		return
	}
	fmt.Fprintf(os.Stderr, "plumb-cni %s (%s)\n", version, commit)
	os.Exit(1)
}

package docker

import "strings"

// A command is what is needed of the command line of an OCI runtime: runc's, and
// crun's where it is the same.
type command struct {
	Name   string // create, start, delete ...
	Bundle string // "" is the working directory
	ID     string // of the container
	Log    string // file that errors go to, "" for none
	JSON   bool   // in JSON, a line an error
}

// parseCommand reads a command line without the name of the program. It knows
// the options that have a value, since such a value may look like anything.
func parseCommand(args []string) command {
	var c command
	var log, format string
	rest := options(args, map[string]*string{
		"log": &log, "log-format": &format, "log-level": nil, "root": nil, "criu": nil, "rootless": nil, "cgroup-manager": nil,
	})
	c.Log, c.JSON = log, format == "json"
	if len(rest) == 0 {
		return c
	}
	c.Name = rest[0]
	if !c.starts() {
		return c
	}
	rest = options(rest[1:], map[string]*string{
		"bundle": &c.Bundle, "b": &c.Bundle, "console-socket": nil, "pid-file": nil, "preserve-fds": nil, "config": nil, "f": nil,
	})
	if len(rest) > 0 {
		c.ID = rest[0]
	}
	return c
}

// starts reports whether the command makes a container from a bundle.
func (c command) starts() bool { return c.Name == "create" || c.Name == "run" }

// options takes the options at the front of a command line off, and stores the
// values of those that it is given a place for.
func options(args []string, valued map[string]*string) (rest []string) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		if args[0] == "--" {
			return args[1:]
		}
		name, value, given := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		args = args[1:]
		into, known := valued[name]
		if known && !given && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		if into != nil {
			*into = value
		}
	}
	return args
}

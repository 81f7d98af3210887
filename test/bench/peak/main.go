// Command peak FILE PROGRAM executes a program in its own place, and writes the
// peak of the memory of that process, and of those that it waited for, to the
// file: in KiB.
//
// It is a program of its own because the kernel counts in what the parent held
// when it started the process: a small parent is needed to see a small child.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	status, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		os.Stderr.WriteString("peak: " + err.Error() + "\n") //nolint:errcheck // nobody is left to tell
		status = 1
	}
	os.Exit(status)
}

func run(report string, argv []string) (int, error) {
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &usage); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	return status.ExitStatus(), os.WriteFile(report, strconv.AppendInt(nil, usage.Maxrss, 10), 0o600)
}

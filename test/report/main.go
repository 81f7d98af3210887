// Command report reads the output of go test -json on standard input and prints what go test would print without it. Then
// it judges the skips: each must be one of host.Need's, for a feature that the file named by its argument lists. It ends with status 1 when a test
// failed, a skip was not expected, or nothing was tested.
//
// go test itself says nothing of the skips in a package that passes: a test that lost its reason to run would look like one that passed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	verbose := flag.Bool("v", false, "print what passing tests say as well")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | report [-v] EXPECTED-SKIPS")
		os.Exit(2)
	}
	expected, err := readSkips(flag.Arg(0))
	if err == nil {
		var ok bool
		if ok, err = report(os.Stdin, os.Stdout, expected, *verbose); err == nil && !ok {
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// readSkips reads the features that may be missing, one a line, "#" begins a comment.
func readSkips(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	features := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			features[line] = true
		}
	}
	return features, err
}

// event is a line of go test -json, see `go doc cmd/test2json`.
type event struct {
	Action, Package, Test, Output, FailedBuild, ImportPath string
}

var marker = regexp.MustCompile(`SKIP-FEATURE (\S+?):`)

// report copies the stream as text to w and tells whether all is well.
func report(r io.Reader, w io.Writer, expected map[string]bool, verbose bool) (ok bool, err error) {
	type key struct{ pkg, test string }
	said := make(map[key][]string) // by tests that haven't ended
	skipped := make(map[string]int)
	var wrong []string
	passed, failed := 0, 0
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
		var e event
		if json.Unmarshal(line, &e) != nil || e.Action == "" {
			w.Write(line) // go's own messages come as they are
			continue
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Fprint(w, e.Output)
		case "output":
			if e.Test == "" {
				if e.Output != "PASS\n" { // of a passing package one wants its last line alone
					fmt.Fprint(w, e.Output)
				}
				continue
			}
			said[k] = append(said[k], e.Output)
		case "pass":
			passed++
			if verbose {
				fmt.Fprint(w, strings.Join(said[k], ""))
			}
			delete(said, k)
		case "fail":
			failed++
			if e.Test == "" && e.FailedBuild == "" {
				// What tests said that were cut off by a panic or the time limit.
				for other, lines := range said {
					if other.pkg == e.Package {
						fmt.Fprint(w, strings.Join(lines, ""))
						delete(said, other)
					}
				}
			}
			fmt.Fprint(w, strings.Join(said[k], ""))
			delete(said, k)
		case "skip":
			if e.Test == "" {
				continue // a package without tests
			}
			text := strings.Join(said[k], "")
			delete(said, k)
			if m := marker.FindStringSubmatch(text); m != nil && expected[m[1]] {
				skipped[m[1]]++
			} else {
				wrong = append(wrong, e.Package+" "+e.Test+"\n"+text)
			}
		}
	}
	features := make([]string, 0, len(skipped))
	for feature, n := range skipped {
		features = append(features, fmt.Sprintf("%s (%d)", feature, n))
	}
	if slices.Sort(features); len(features) > 0 {
		fmt.Fprintln(w, "skipped, because this kernel lacks:", strings.Join(features, ", "))
	}
	for _, text := range wrong {
		fmt.Fprint(w, "UNEXPECTED SKIP: ", text)
	}
	return passed > 0 && failed == 0 && len(wrong) == 0, nil
}

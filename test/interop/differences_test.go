package interop

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// A difference is a line of differences.md, where its form is explained.
type difference struct {
	line  int
	cases string         // a pattern, "state:bridge-*"
	text  *regexp.Regexp // of the whole of a difference, its sign included
	seen  bool
}

func (d *difference) matches(name, text string) bool {
	ok, _ := path.Match(d.cases, name) // parseDifferences has tried the pattern
	return ok && d.text.MatchString(text)
}

// differences judges what a test finds by the list.
type differences struct {
	group  string // what the names of the test's cases begin with
	listed []*difference
}

func listedDifferences(t *testing.T, group string) *differences {
	t.Helper()
	data, err := os.ReadFile("differences.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseDifferences(string(data))
	if err != nil {
		t.Fatalf("differences.md: %v", err)
	}
	d := &differences{group: group}
	for _, one := range all {
		if strings.HasPrefix(one.cases, group+":") {
			d.listed = append(d.listed, one)
		}
	}
	return d
}

// judge fails the test for every difference that isn't listed for the case.
func (d *differences) judge(t *testing.T, name string, found []string) {
	t.Helper()
	var unlisted []string
	for _, text := range found {
		listed := false
		for _, one := range d.listed {
			if one.matches(d.group+":"+name, text) {
				one.seen, listed = true, true
			}
		}
		if !listed {
			unlisted = append(unlisted, text)
		}
	}
	if len(unlisted) > 0 {
		t.Errorf("differences that differences.md doesn't list for %s:%s (- reference, + plumb):\n%s",
			d.group, name, strings.Join(unlisted, "\n"))
	}
}

// done fails the test for every listed difference that no case had. It is to be
// called when all cases have been judged.
func (d *differences) done(t *testing.T) {
	t.Helper()
	for _, one := range d.listed {
		if !one.seen {
			t.Errorf("differences.md:%d: no case of %s has this difference any more: %s", one.line, one.cases, one.text)
		}
	}
}

// parseDifferences reads the part of a document that follows its first
// second-level heading: sections of a reason and, indented, differences.
func parseDifferences(document string) ([]*difference, error) {
	var (
		all    []*difference
		errs   []error
		title  string
		reason bool
		count  int
		number int
	)
	end := func() {
		if title != "" && (!reason || count == 0) {
			errs = append(errs, fmt.Errorf("line %d: section %q lacks a reason or differences", number, title))
		}
		reason, count = false, 0
	}
	for line := range strings.Lines(document) {
		number++
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "## "):
			end()
			title = line[3:]
		case title == "" || line == "":
		case strings.HasPrefix(line, "    "):
			cases, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			re, err := regexp.Compile(`^(?:` + strings.Replace(strings.TrimSpace(text), "+ ", `\+ `, 1) + `)$`)
			_, bad := path.Match(cases, "")
			if err = errors.Join(err, bad); err != nil {
				errs = append(errs, fmt.Errorf("line %d: %w", number, err))
				continue
			}
			all = append(all, &difference{line: number, cases: cases, text: re})
			count++
		default:
			reason = true
		}
	}
	end()
	return all, errors.Join(errs...)
}

// The list has to be able to fail: a difference it lacks, one it has too many,
// a section without a reason.
func TestDifferences(t *testing.T) {
	const document = "# Title\n\n    ignored\n\n## One\n\nA reason.\n\n    a:x-* + link .*\n    a:y - route \\d+\n    b:z + other\n"
	all, err := parseDifferences(document)
	if err != nil || len(all) != 3 || all[0].line != 9 {
		t.Fatalf("parsed %v, %v", all, err)
	}
	for _, tt := range []struct {
		name, text string
		want       bool
	}{
		{"a:x-1", "+ link up", true},
		{"a:x-1", "- link up", false},
		{"a:y", "- route 12", true},
		{"a:y", "- route 12 more", false},
		{"a:z", "+ other", false},
		{"b:z", "+ other", true},
	} {
		got := false
		for _, d := range all {
			got = got || d.matches(tt.name, tt.text)
		}
		if got != tt.want {
			t.Errorf("%s %q is listed: %v, want %v", tt.name, tt.text, got, tt.want)
		}
	}
	for _, bad := range []string{"## One\n\n    a:x + y\n", "## One\n\nReason only.\n", "## One\n\nReason.\n\n    a:x + (\n", "## One\n\nReason.\n\n    a:[ + y\n"} {
		if _, err := parseDifferences(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

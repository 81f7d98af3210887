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

func (d *difference) covers(name string) bool {
	ok, _ := path.Match(d.cases, name) // parseDifferences has tried the pattern
	return ok
}

func (d *difference) matches(name, text string) bool {
	return d.covers(name) && d.text.MatchString(text)
}

// differences judges what a test finds by the list.
type differences struct {
	group  string // what the names of the test's cases begin with
	listed []*difference
	judged map[string]bool // by the name of a case: false until it has been
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
	d := &differences{group: group, judged: make(map[string]bool)}
	for _, one := range all {
		if strings.HasPrefix(one.cases, group+":") {
			d.listed = append(d.listed, one)
		}
	}
	return d
}

// expect names a case that is to be judged, unless the kernel lacks what it needs or it was
// not asked for.
func (d *differences) expect(name string) { d.judged[name] = false }

// judge fails the test for every difference that isn't listed for the case.
func (d *differences) judge(t *testing.T, name string, found []string) {
	t.Helper()
	d.judged[name] = true
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

// done fails the test for every listed difference that no case had, if all of
// its cases have been judged.
func (d *differences) done(t *testing.T) {
	t.Helper()
	for _, one := range d.stale() {
		t.Errorf("differences.md:%d: no case of %s has this difference any more: %s", one.line, one.cases, one.text)
	}
}

func (d *differences) stale() (list []*difference) {
	for _, one := range d.listed {
		open := one.seen
		for name, judged := range d.judged {
			open = open || !judged && one.covers(d.group+":"+name)
		}
		if !open {
			list = append(list, one)
		}
	}
	return list
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
			text = strings.TrimSpace(text)
			if strings.HasPrefix(text, "+") {
				text = `\` + text // the sign
			}
			re, err := regexp.Compile(`^(?:` + text + `)$`)
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
	const document = "# Title\n\n    ignored\n\n## One\n\nA reason.\n\n    a:x-* + link .*\n    a:y - route \\d+ x\n    b:z + other\n"
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
		{"a:y", "- route 12 x", true},
		{"a:y", "- route 12 x more", false},
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
	d := differences{group: "a", listed: all[:2], judged: make(map[string]bool)}
	for _, name := range []string{"x-1", "x-2", "y"} {
		d.expect(name)
	}
	d.judge(t, "x-1", []string{"+ link up"})
	if stale := d.stale(); stale != nil {
		t.Errorf("of cases that have not been judged, %v is stale", stale)
	}
	d.judge(t, "y", nil)
	if stale := d.stale(); len(stale) != 1 || stale[0] != all[1] {
		t.Errorf("stale are %v, want the one of case y", stale)
	}
	for _, bad := range []string{"## One\n\n    a:x + y\n", "## One\n\nReason only.\n", "## One\n\nReason.\n\n    a:x + (\n", "## One\n\nReason.\n\n    a:[ + y\n"} {
		if _, err := parseDifferences(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

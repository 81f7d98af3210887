package cni

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folder makes a folder of files from pairs of name and content.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func types(l *List) string {
	var types []string
	for _, p := range l.Plugins {
		types = append(types, p.Type)
	}
	return strings.Join(types, " ")
}

func TestLoadList(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.conflist":          `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"}]}`,
		"b.conflist":          `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge"}],"loadOnlyInlinedPlugins":true}`,
		"c.conflist":          `{"cniVersion":"1.0.0","name":"net"}`,
		"d.conf":              `{"cniVersion":"1.0.0","name":"net","type":"ptp"}`,
		"e.conflist":          `{"cniVersion":"1.0.0","name":"other"}`,
		"f.conflist":          `{"cniVersion":"1.0.0","name":"file","plugins":[{"type":"bridge"}]}`,
		"g.conflist":          `{"cniVersion":"1.0.0","name":"broken","plugins":[{"type":"bridge"}]}`,
		"net/20-second.conf":  `{"type":"second"}`,
		"net/10-first.conf":   `{"type":"first","name":"x"}`,
		"net/30-third.json":   `{"type":"third"}`,
		"net/sub.conf/x.conf": `{"type":"x"}`,
		"broken/10.conf":      `{"type":"ok"}`,
		"broken/20.conf":      `{"name":"x"}`,
		"file":                ``,
	})
	for file, want := range map[string]string{
		"a.conflist": "bridge first second",
		"b.conflist": "bridge",
		"c.conflist": "first second",
		"d.conf":     "ptp",
		"f.conflist": "bridge",
	} {
		l, err := LoadList(filepath.Join(dir, file))
		if err != nil || types(l) != want {
			t.Errorf("%s: got %+v, %v, want %s", file, l, err, want)
			continue
		}
		for _, p := range l.Plugins {
			if p.Name != l.Name || p.CNIVersion != V100 {
				t.Errorf("%s: %s has name %q and version %q", file, p.Type, p.Name, p.CNIVersion)
			}
		}
	}
	for file, want := range map[string]struct {
		code Code
		text string
	}{
		"e.conflist": {CodeInvalidConfig, `e.conflist: network "other" has no plugins`},
		"g.conflist": {CodeInvalidConfig, "broken/20.conf: type is missing"},
		"z.conflist": {CodeIO, "z.conflist: no such file"},
	} {
		l, err := LoadList(filepath.Join(dir, file))
		if l != nil || !errors.Is(err, want.code) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %+v, %v, want %v", file, l, err, want)
		}
	}
}

func TestLoadDir(t *testing.T) {
	dir := folder(t, map[string]string{
		"30-c.json":     `{"name":"c","type":"x"}`,
		"10-a.conflist": `{"name":"a","plugins":[{"type":"x"}]}`,
		"20-b.conf":     `{"name":"b","type":"x"}`,
		"15-bad.conf":   `{`,
		"25-bad.conf":   `{"name":"bad"}`,
		"40-d.conf~":    `{`,
		"README":        `{`,
		"d.conf/x":      `{`,
	})
	if err := os.Symlink("nowhere", filepath.Join(dir, "50-gone.conf")); err != nil {
		t.Fatal(err)
	}
	lists, err := LoadDir(dir)
	var names []string
	for _, l := range lists {
		names = append(names, l.Name)
	}
	if strings.Join(names, " ") != "a b c" {
		t.Errorf("got %v", names)
	}
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Fatalf("got error %v", err)
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if want := []string{"15-bad.conf", "25-bad.conf", "50-gone.conf"}[i]; !strings.Contains(line, want) {
			t.Errorf("got %s, want %s", line, want)
		}
	}

	if lists, err := LoadDir(t.TempDir()); lists != nil || err != nil {
		t.Errorf("empty folder: %v, %v", lists, err)
	}
	if _, err := LoadDir(filepath.Join(dir, "none")); !errors.Is(err, CodeIO) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestFindList(t *testing.T) {
	dir := folder(t, map[string]string{
		"10-bad.conflist": `{`,
		"20-a.conf":       `{"name":"a","type":"single"}`,
		"30-a.conflist":   `{"name":"a","plugins":[{"type":"list"}]}`,
		"40-a.conflist":   `{"name":"a","plugins":[{"type":"later"}]}`,
		"50-b.json":       `{"name":"b","type":"json"}`,
		"60-b.conf":       `{"name":"b","type":"conf"}`,
	})
	for name, want := range map[string]string{"a": "list", "b": "json"} {
		if l, err := FindList(dir, name); err != nil || types(l) != want {
			t.Errorf("%s: got %+v, %v", name, l, err)
		}
	}
	l, err := FindList(dir, "c")
	if l != nil || !errors.Is(err, fs.ErrNotExist) || AsError(err).Code != CodeInvalidConfig || !strings.Contains(err.Error(), "10-bad.conflist") {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, err := FindList(filepath.Join(dir, "none"), "a"); !errors.Is(err, CodeIO) {
		t.Errorf("no folder: %v", err)
	}
}

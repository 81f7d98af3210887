package verblog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
)

func TestDestination(t *testing.T) {
	for _, test := range []struct {
		name, environment, settings string // "" for no settings file
		want, err                   string
	}{
		{name: "nothing"},
		{name: "environment", environment: "/var/log/a", want: "/var/log/a"},
		{name: "settings", settings: `{"log":"/var/log/b"}`, want: "/var/log/b"},
		{name: "both", environment: "/var/log/a", settings: `{"log":"/var/log/b"}`, want: "/var/log/a"},
		{name: "settings about something else", settings: `{"other":1}`},
		{name: "environment beside bad settings", environment: "/var/log/a", settings: `{`, want: "/var/log/a"},
		{name: "no JSON", settings: `log=/var/log/b`, err: "plumb.json: invalid character"},
		{name: "wrong type", settings: `{"log":true}`, err: "plumb.json: json: cannot unmarshal bool"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "plumb.json")
			if test.settings != "" {
				write(t, file, test.settings)
			}
			got, err := Destination(test.environment, file)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if text := errorText(err); (text == "") != (test.err == "") || !strings.Contains(text, test.err) {
				t.Errorf("error %q, want one with %q", text, test.err)
			}
		})
	}
}

func TestDestinationCannotBeRead(t *testing.T) {
	if got, err := Destination("", t.TempDir()); got != "" || err == nil {
		t.Errorf("a folder in place of the settings file gave %q, %v", got, err)
	}
}

// TestAppend has many write lines that are longer than a page into one file.
func TestAppend(t *testing.T) {
	const writers, lines = 8, 50
	file := filepath.Join(t.TempDir(), "log")
	entry := plugin.Entry{Time: time.Unix(1e9, 0).UTC(), Plugin: "bridge", Verb: "ADD", Network: "a\nb"}
	for range 200 {
		entry.Steps = append(entry.Steps, state.TraceStep{Op: "ensure", Object: "host link veth0", Micros: 1.5})
	}
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range lines {
				if err := Append(file, entry); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		var got plugin.Entry
		if err := json.Unmarshal([]byte(line), &got); err != nil || !reflect.DeepEqual(got, entry) {
			t.Fatalf("line %d is not as it was written (%v): %.100s", n, err, line)
		}
	}
	if n != writers*lines {
		t.Errorf("%d lines, want %d", n, writers*lines)
	}
}

// TestAppendAfterRotation needs the line to go to where the name leads now.
func TestAppendAfterRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for _, verb := range []string{"one", "two"} {
		if err := Append(file, plugin.Entry{Plugin: verb}); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file, file+"."+verb); err != nil {
			t.Fatal(err)
		}
	}
	for _, verb := range []string{"one", "two"} {
		if data, err := os.ReadFile(file + "." + verb); err != nil || strings.Count(string(data), "\n") != 1 || !strings.Contains(string(data), verb) {
			t.Errorf("%s: %q, %v", verb, data, err)
		}
	}
}

func TestAppendIsForItsOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := Append(file, plugin.Entry{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
}

func TestAppendFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "missing", "log")
	if err := Append(file, plugin.Entry{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names %s", err, file)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

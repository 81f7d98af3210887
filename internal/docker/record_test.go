package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	s := Records{filepath.Join(t.TempDir(), "records")}
	ctx := context.Background()
	if ids, err := s.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("without a folder: %v, %v", ids, err)
	}
	unlock, err := s.Lock(ctx, "abc")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i, ifName := range []string{"eth1", "eth0"} { // in the order in which they were made
		r := &Record{ContainerID: "abc", Want: Want{Network: "n", IfName: ifName}, Made: now.Add(time.Duration(i))}
		if err := s.write(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"torn.json": `{"contain`, "empty.json": "", "eth7.json": `{"containerID":"abc","ifName":"eth0"}`, ".eth8.json": "x"} {
		if err := os.WriteFile(filepath.Join(s.Dir, "abc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, err := s.Of("abc")
	if err == nil || len(records) != 2 || records[0].IfName != "eth1" || records[1].IfName != "eth0" {
		t.Errorf("%v, %v", records, err)
	}
	if records, err = s.whole("abc"); err != nil || len(records) != 2 {
		t.Errorf("%v, %v", records, err)
	}
	if records, err = s.Of("abc"); err != nil || len(records) != 2 {
		t.Errorf("without those that are torn: %v, %v", records, err)
	}

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(short, "abc"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is taken: %v", err)
	}
	for _, r := range records {
		if err := s.remove(r); err != nil {
			t.Error(err)
		}
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if ids, err := s.Containers(); err != nil || len(ids) != 0 {
		t.Errorf("of a container without records is left %v, %v", ids, err)
	}
	for _, id := range []string{"", "..", "a/b", "."} {
		if _, err := s.Lock(ctx, id); err == nil {
			t.Errorf("container %q is locked", id)
		}
	}
}

// TestGone tells a namespace that is gone from one that can't be looked at.
func TestGone(t *testing.T) {
	unreadable := filepath.Join(t.TempDir(), strings.Repeat("x", 256)) // no kernel looks for such a name
	const own = "/proc/self/ns/net"
	here, err := identify(own)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r     Record
		gone  bool
		doubt bool
	}{
		"there":       {r: Record{NetNS: own, NS: here}},
		"another one": {r: Record{NetNS: own}, gone: true},
		"gone":        {r: Record{NetNS: filepath.Join(t.TempDir(), "none"), NS: here}, gone: true},
		"in doubt":    {r: Record{NetNS: unreadable, NS: here}, doubt: true},
	} {
		gone, err := c.r.gone()
		if (err != nil) != c.doubt || err == nil && gone != c.gone || c.r.Stale() != c.gone {
			t.Errorf("%s: gone is %v, %v; stale is %v", name, gone, err, c.r.Stale())
		}
	}
}

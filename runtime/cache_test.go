package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

const (
	wholeCache = `{"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":"eth0","networkName":"net","netns":"/run/netns/x",` +
		`"cniArgs":[["K","v"]],"capabilityArgs":{"big":9007199254740993},"result":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}`
	bareResult = `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}]}`
)

func TestDecodeCache(t *testing.T) {
	a, err := decodeCache([]byte(wholeCache))
	if err != nil {
		t.Fatal(err)
	}
	want := &CachedAttachment{
		Network: "net",
		Attachment: Attachment{ContainerID: "c1", NetNS: "/run/netns/x", IfName: "eth0", Args: [][2]string{{"K", "v"}},
			CapabilityArgs: map[string]any{"big": json.Number("9007199254740993")}},
		Config: []byte("{}"), Result: a.Result,
	}
	if !reflect.DeepEqual(a, want) || a.Result == nil || len(a.Result.IPs) != 1 {
		t.Errorf("got  %+v\nwant %+v", a, want)
	}
	for name, c := range map[string]struct {
		data string
		want error
		part bool // the attachment is known all the same
	}{
		"empty":          {"", ErrCacheTorn, false},
		"zeros":          {"\x00\x00\x00", ErrCacheTorn, false},
		"truncated":      {wholeCache[:100], ErrCacheTorn, false},
		"trailing":       {wholeCache + "{", ErrCacheTorn, false},
		"twice":          {wholeCache + wholeCache, ErrCacheTorn, false},
		"list":           {`[]`, ErrCacheForeign, false},
		"null":           {`null`, ErrCacheForeign, false},
		"other types":    {`{"kind":1}`, ErrCacheForeign, false},
		"other kind":     {strings.Replace(wholeCache, "V1", "V9", 1), ErrCacheForeign, false},
		"no network":     {strings.Replace(wholeCache, `"net"`, `""`, 1), ErrCacheForeign, false},
		"bad container":  {strings.Replace(wholeCache, `"c1"`, `"../c1"`, 1), ErrCacheForeign, false},
		"unknown result": {strings.Replace(wholeCache, "1.0.0", "7.0.0", 1), ErrCacheResult, true},
		"bad result":     {strings.Replace(wholeCache, "10.0.0.2/24", "10.0.0.2", 1), ErrCacheResult, true},
		"result's type":  {wholeCache[:strings.Index(wholeCache, `{"cniVersion"`)] + `7}`, ErrCacheResult, true},
		"no result":      {strings.Replace(wholeCache, `"result"`, `"else"`, 1), nil, true},
		"null result":    {wholeCache[:strings.Index(wholeCache, `{"cniVersion"`)] + `null}`, nil, true},
		"bare result":    {bareResult, nil, true},
		"bare, bad":      {strings.Replace(bareResult, "/24", "", 1), ErrCacheForeign, false},
		"bare, version":  {strings.Replace(bareResult, "0.4.0", "7.0.0", 1), ErrCacheForeign, false},
	} {
		a, err := decodeCache([]byte(c.data))
		if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) || (a != nil) != c.part {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// What is in the way of an attachment's file, and what becomes of it.
func TestCacheFiles(t *testing.T) {
	self := Attachment{ContainerID: "b-c", IfName: "eth0"} // of network "a": a-b-c-eth0
	other := &CachedAttachment{Network: "a-b", Attachment: Attachment{ContainerID: "c", IfName: "eth0"}, Result: &cni.Result{}}
	theirs, err := encodeCache(other, cni.V100)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data string
		err  error // reported by the lookup before
		kept bool  // the file survives the ADD and the DEL
	}{
		"torn":              {`{"kind":`, ErrCacheTorn, false},
		"foreign":           {`{"kind":"else"}`, ErrCacheForeign, true},
		"ambiguous":         {string(theirs), ErrCacheOther, true},
		"before cniCacheV1": {bareResult, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			store := cache{filepath.Join(t.TempDir(), "results")}
			path := filepath.Join(store.dir, "a-b-c-eth0")
			if err := os.MkdirAll(store.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.data), 0o600); err != nil {
				t.Fatal(err)
			}
			found := store.find("a", self)
			if !errors.Is(found.err, c.err) || (found.attachment != nil) != (c.err == nil) {
				t.Errorf("found %+v, %v", found.attachment, found.err)
			}
			mine := &CachedAttachment{Network: "a", Attachment: self, Config: []byte("mine"), Result: &cni.Result{}}
			if err := store.write(mine, cni.V100); err != nil {
				t.Fatal(err)
			}
			if found = store.find("a", self); found.attachment == nil || string(found.attachment.Config) != "mine" {
				t.Fatalf("found %+v, %v", found.attachment, found.err)
			}
			if err := store.remove(found.remove); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if kept := err == nil && string(data) == c.data; kept != c.kept {
				t.Errorf("kept: %v, want %v: %s", kept, c.kept, data)
			}
			if entries, _ := os.ReadDir(filepath.Join(store.dir, tempDir)); len(entries) > 0 {
				t.Errorf("temporary files are left: %v", entries)
			}
		})
	}
}

// Nothing in the folder can stop a reader, a FIFO included, and what is unusable
// is told of without hiding what is not.
func TestCacheFolder(t *testing.T) {
	store := cache{filepath.Join(t.TempDir(), "results")}
	if all, err := store.all(); all != nil || err != nil {
		t.Errorf("no folder: %v, %v", all, err)
	}
	if err := store.write(&CachedAttachment{Network: "net", Attachment: Attachment{ContainerID: "c1", IfName: "eth0"}}, cni.V100); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"a-empty": "", "b-foreign": "[]", "c-bare": bareResult, tempDir + "/new": "x", tempDir + "/old": wholeCache}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(store.dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * tempAge)
	if err := errors.Join(
		syscall.Mkfifo(filepath.Join(store.dir, "d-fifo"), 0o600), os.Mkdir(filepath.Join(store.dir, "e-folder"), 0o700),
		os.Truncate(filepath.Join(store.dir, "a-empty"), 0), os.Chtimes(filepath.Join(store.dir, tempDir, "old"), old, old),
	); err != nil {
		t.Fatal(err)
	}
	all, err := store.all()
	if len(all) != 1 || all[0].ContainerID != "c1" {
		t.Errorf("found %+v", all)
	}
	for _, name := range []string{"a-empty", "b-foreign", "c-bare", "d-fifo", "e-folder"} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(store.dir, name)) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
	store.sweep(time.Now())
	if left, _ := filepath.Glob(filepath.Join(store.dir, tempDir, "*")); len(left) != 1 || filepath.Base(left[0]) != "new" {
		t.Errorf("temporary files left: %q", left)
	}
	info, err := os.Stat(filepath.Join(store.dir, "net-c1-eth0"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func FuzzCache(f *testing.F) {
	for _, seed := range []string{
		wholeCache, bareResult, wholeCache[:60], `{"kind":"cniCacheV1"}`, `{"ip4":{"ip":"10.0.0.2/24"}}`, "", "null", "[]",
		strings.Replace(wholeCache, `[["K","v"]]`, `[["K"],["a","b","c"],null]`, 1),
		strings.Replace(wholeCache, `"result":{`, `"RESULT":null,"result":{"interfaces":[null],`, 1),
		strings.Replace(wholeCache, `9007199254740993`, `1e999`, 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeCache(data)
		if a == nil {
			if !errors.Is(err, ErrCacheTorn) && !errors.Is(err, ErrCacheForeign) {
				t.Fatalf("unclassified: %v", err)
			}
			return
		}
		if a.Network == "" {
			return // before cniCacheV1
		}
		again, err := encodeCache(a, cni.Latest)
		if err != nil {
			t.Fatalf("cannot be encoded again: %v", err)
		}
		b, err := decodeCache(again)
		if err != nil {
			t.Fatalf("cannot be decoded again: %v: %s", err, again)
		}
		if !b.is(a.Network, a.Attachment) || b.NetNS != a.NetNS || string(b.Config) != string(a.Config) ||
			(b.Result == nil) != (a.Result == nil) || len(a.Args) != len(b.Args) || len(a.CapabilityArgs) != len(b.CapabilityArgs) {
			t.Fatalf("changed on the way:\n%+v\n%+v", a, b)
		}
	})
}

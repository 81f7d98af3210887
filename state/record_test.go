package state

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/internal/netns"
)

// TestEncodeRecord compares what is written by hand with what the tags say.
func TestEncodeRecord(t *testing.T) {
	for _, r := range []Record{
		{},
		{
			Plugin: "bridge", Owner: Owner{Network: "a \"<net>\"\n", ContainerID: "c\\1", IfName: "eth0"},
			NetNS: "/run/netns/\u00fc\x7f", Sandbox: netns.ID{Dev: 4, Inode: 1 << 63, Cookie: 7},
			Objects: []Object{
				{Key: Key{NS: Sandbox, Kind: "link", Name: "eth0"}, Recorded: true},
				{Key: Key{NS: Host, Kind: "sysctl", Name: "net/a.b"}, Before: json.RawMessage(`{"a":["b"]}`), Addresses: []netip.Addr{{}}},
			},
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")},
			IPAM:      json.RawMessage(`{"type":"host-local"}`),
		},
		{Plugin: "p", Sandbox: netns.ID{Inode: 1}, Objects: []Object{{}}},
	} {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.encode()); got != string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestLongRecord: thousands of ports that don't follow each other make a long key.
func TestLongRecord(t *testing.T) {
	records := Records{Dir: t.TempDir()}
	o := Owner{Network: "net", ContainerID: "id", IfName: "eth0"}
	name := strings.Repeat("tcp:0.0.0.0:30000,", 10000)
	if _, err := records.Save(&Record{Plugin: "portmap", Owner: o, Objects: []Object{{Key: Key{NS: Host, Kind: "portmap", Name: name}}}}, nil); err != nil {
		t.Fatal(err)
	}
	got, err := records.Load("portmap", o)
	if err != nil || got == nil || len(got.Objects) != 1 || got.Objects[0].Key.Name != name {
		t.Errorf("a record of %d bytes is not loaded as it was saved: %v", len(name), err)
	}
}

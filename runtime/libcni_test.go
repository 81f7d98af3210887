package runtime_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// official is libcni on the same plugins and the same cache.
func (b *bench) official(t *testing.T, config []byte) (*libcni.CNIConfig, *libcni.NetworkConfigList) {
	t.Helper()
	t.Setenv("LOG", b.log)
	l, err := libcni.NetworkConfFromBytes(config)
	if err != nil {
		t.Fatal(err)
	}
	return libcni.NewCNIConfigWithCacheDir(b.Path, b.CacheDir, nil), l
}

func full() (runtime.Attachment, *libcni.RuntimeConf) {
	a := at("c1")
	a.Args = [][2]string{{"K", "v"}, {"L", ""}}
	a.CapabilityArgs = map[string]any{"mac": "02:00:00:00:00:01", "portMappings": []any{map[string]any{"hostPort": 80.0}}}
	return a, &libcni.RuntimeConf{ContainerID: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName, Args: a.Args, CapabilityArgs: a.CapabilityArgs}
}

func sameJSON(t *testing.T, got, want any) {
	t.Helper()
	var values [2]any
	for i, v := range []any{got, want} {
		data, ok := v.([]byte)
		if !ok {
			data, _ = json.Marshal(v)
		}
		if err := json.Unmarshal(data, &values[i]); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
	}
	if !reflect.DeepEqual(values[0], values[1]) {
		t.Errorf("got  %v\nwant %v", values[0], values[1])
	}
}

// Each reads, checks and deletes what the other added; the files have the same
// content.
func TestLibcniInterop(t *testing.T) {
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			b := newBench(t, "a", "b")
			l := list(t, version, plugA, plugB)
			lib, liblist := b.official(t, l.Raw)
			a, rt := full()
			file := filepath.Join(b.dir, "net-c1-eth0")
			var content [2][]byte

			// Added by libcni.
			if _, err := lib.AddNetworkList(ctx, liblist, rt); err != nil {
				t.Fatal(err)
			}
			content[0], _ = os.ReadFile(file)
			cached, err := b.Cached("net", "c1", "eth0")
			if err != nil || cached == nil {
				t.Fatalf("not found: %v", err)
			}
			sameJSON(t, cached.Config, l.Raw)
			sameJSON(t, cached.CapabilityArgs, a.CapabilityArgs)
			if !reflect.DeepEqual(cached.Args, a.Args) || cached.NetNS != a.NetNS || len(cached.Result.IPs) != 1 {
				t.Errorf("cached %+v", cached)
			}
			if err := b.Check(ctx, l, at("c1")); err != nil {
				t.Error(err)
			}
			if err := b.Del(ctx, l, at("c1")); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("still cached after DEL")
			}

			// Added by ours.
			result, err := b.Add(ctx, l, a)
			if err != nil {
				t.Fatal(err)
			}
			content[1], _ = os.ReadFile(file)
			libresult, err := lib.GetNetworkListCachedResult(liblist, rt)
			if err != nil || libresult == nil {
				t.Fatalf("libcni doesn't find the result: %v", err)
			}
			encoded, err := result.Encode(cni.Version(version))
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, libresult, encoded)
			config, newrt, err := lib.GetNetworkListCachedConfig(liblist, &libcni.RuntimeConf{ContainerID: "c1", IfName: "eth0"})
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, config, l.Raw)
			sameJSON(t, newrt.CapabilityArgs, a.CapabilityArgs)
			if !reflect.DeepEqual(newrt.Args, a.Args) {
				t.Errorf("libcni reads arguments %q", newrt.Args)
			}
			if err := lib.CheckNetworkList(ctx, liblist, rt); err != nil {
				t.Error(err)
			}
			if err := lib.DelNetworkList(ctx, liblist, rt); err != nil {
				t.Error(err)
			}
			if left := b.cached(); left != nil {
				t.Errorf("left in the cache: %q", left)
			}

			// The results differ in the version only: libcni keeps that of the
			// plugin, which answers in 1.0.0 here.
			for i := range content {
				var fields map[string]any
				if err := json.Unmarshal(content[i], &fields); err != nil {
					t.Fatal(err)
				}
				delete(fields, "result")
				content[i], _ = json.Marshal(fields)
			}
			sameJSON(t, content[1], content[0])
		})
	}
}

// libcni's walk of the folder sees every attachment once, also while a file is
// being written and when two have the same name.
func TestLibcniReadsTheFolder(t *testing.T) {
	b := newBench(t, "a")
	l := parse(t, `{"cniVersion":"1.0.0","name":"a","plugins":[`+plugA+`]}`)
	l2 := parse(t, `{"cniVersion":"1.0.0","name":"a-b","plugins":[`+plugA+`]}`)
	for _, add := range []struct {
		l  *cni.List
		id string
	}{{l, "b-c"}, {l2, "c"}} {
		if _, err := b.Add(ctx, add.l, at(add.id)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(b.dir, "a-b-c-eth0"))
	if err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(b.dir, ".plumb-tmp", "in-the-making"), string(whole), 0o600)
	lib, _ := b.official(t, l.Raw)
	for id, want := range map[string]string{"": "[a b-c][a-b c]", "b-c": "[a b-c]", "c": "[a-b c]"} {
		theirs, err := lib.GetCachedAttachments(id)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := b.Attachments(id)
		if err != nil {
			t.Fatal(err)
		}
		var got [2]strings.Builder
		for _, a := range theirs {
			fmt.Fprintf(&got[0], "[%s %s]", a.Network, a.ContainerID)
		}
		for _, a := range ours {
			fmt.Fprintf(&got[1], "[%s %s]", a.Network, a.ContainerID)
		}
		if got[0].String() != want || got[1].String() != want {
			t.Errorf("container %q: libcni %s, ours %s, want %s", id, &got[0], &got[1], want)
		}
	}
	// The one of the two names that was taken is found, used and removed too.
	if err := b.Del(ctx, l2, at("c")); err != nil {
		t.Fatal(err)
	}
	if conf := b.sent("a", "DEL"); conf["prevResult"] == nil {
		t.Error("no result for DEL")
	}
	if got := b.cached(); len(got) != 1 || got[0] != "a-b-c-eth0" {
		t.Errorf("left in the cache: %q", got)
	}
}

// A torn file stops neither DEL nor CHECK's message from saying so.
func TestTornCache(t *testing.T) {
	b := newBench(t, "a")
	l := list(t, "1.0.0", plugA)
	for _, torn := range []string{"", "{", `{"kind":"cniCacheV1","containerId":"c1","ifName":"eth0","networkName":"net","cniArgs":[["A;B","c"]],"result":{"cniVersion":"5.0.0"}}`} {
		b.write(filepath.Join(b.dir, "net-c1-eth0"), torn, 0o600)
		if err := b.Check(ctx, l, at("c1")); err == nil || !strings.Contains(err.Error(), b.dir) {
			t.Errorf("CHECK: %v", err)
		}
		b.warnings = nil
		if err := b.Del(ctx, l, at("c1")); err != nil {
			t.Errorf("DEL: %v", err)
		}
		if len(b.warnings) == 0 || b.cached() != nil {
			t.Errorf("%q: warnings %v, left %q", torn, b.warnings, b.cached())
		}
	}
}

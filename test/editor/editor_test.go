package editor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/docs"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/test/editor"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// examples returns the network configurations in a document: what is JSON from the start of a line of code on.
func examples(text string) (list []string) {
	for at := 0; at < len(text); {
		line, _, _ := strings.Cut(text[at:], "\n")
		next := at + len(line) + 1
		if code := strings.TrimSpace(line); strings.HasPrefix(code, "{") {
			var raw json.RawMessage
			d := json.NewDecoder(strings.NewReader(text[at:]))
			if d.Decode(&raw) == nil {
				var c struct{ Name, Type, Plugins json.RawMessage }
				if json.Unmarshal(raw, &c) == nil && c.Name != nil && (c.Type != nil || c.Plugins != nil) {
					list = append(list, string(raw))
				}
				next = at + int(d.InputOffset())
			}
		}
		at = next
	}
	return list
}

// TestDocuments has an editor look at the examples of all documents, every plugin's among them.
func TestDocuments(t *testing.T) {
	root := host.Root(t)
	found := make(map[string]int)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, config := range examples(string(data)) {
			found[filepath.ToSlash(name)]++
			if err := editor.Mistake(t, config); err != nil {
				t.Errorf("%s: %v\n%s", name, err, config)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all.Plugins() {
		if name := "docs/plugins/" + p.Name() + ".md"; found[name] == 0 {
			t.Errorf("%s has no example", name)
		}
	}
	if found["README.md"] == 0 {
		t.Error("README.md has no example")
	}
}

// TestRecorded looks at what runtimes wrote and sent.
func TestRecorded(t *testing.T) {
	var lists, requests int
	err := filepath.WalkDir(filepath.Join(host.Root(t), "test/interop/testdata/recorded"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		config := string(data)
		if strings.HasSuffix(path, ".conflist") {
			lists++
		} else {
			var r struct {
				Env   map[string]string
				Stdin json.RawMessage
			}
			if json.Unmarshal(data, &r) != nil || r.Stdin == nil || r.Env["CNI_COMMAND"] == "VERSION" {
				return nil
			}
			requests++
			config = string(r.Stdin)
		}
		if err := editor.Mistake(t, config); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(path), err, config)
		}
		return nil
	})
	if err != nil || lists < 3 || requests < 30 {
		t.Errorf("%d lists, %d requests: %v", lists, requests, err)
	}
}

// TestOthers writes what isn't about plumb, and mistakes that only an editor sees: to a plugin they are keys of somebody else.
func TestOthers(t *testing.T) {
	for _, good := range []string{
		`{"cniVersion":"1.0.0","name":"flannel","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}},{"type":"portmap","capabilities":{"portMappings":true}}]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"ptp","ipam":{"type":"whereabouts","range":"10.0.0.0/24","enable_overlapping_ranges":false}}`,
		`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","args":{"labels":[{"key":"a"}],"cni":{"color":"red"}},"runtimeConfig":{"color":"red"}}]}`,
		`{"cniVersion":"1.1.0","name":"n","disableGC":"true","loadOnlyInlinedPlugins":true,"cniVersions":["0.4.0","9.0.0"],"plugins":[{"type":"loopback"}]}`,
		`{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"plumb","capabilities":{"mac":true},"plugins":[{"type":"bridge"},{"type":"flannel","x":1}]}]}`,
		`{"$schema":"./cni.json","cniVersion":"1.1.0","name":"n"}`,
		`{"cniVersion":"1.0.0","name":"bridge","nerdctlID":"17f29b07","nerdctlLabels":{"nerdctl/default-network":"true"},"plugins":[{"type":"bridge"}]}`,
	} {
		if err := editor.Mistake(t, good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		`{"cniVersion":"1.0.0","name":"n","type":"bridge","isGatway":true}`,
		`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","ipam":{"type":"host-local","subnt":"10.0.0.0/24"}}]}`,
		`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","ipam":{"type":"host-local","ranges":[{"subnet":"10.0.0.0/24"}]}}]}`,
		`{"cniVersion":"1.0.0","name":"n","plugin":[{"type":"bridge"}]}`,
		`{"cniVersion":"1.0.0","name":"n","plugins":[{"bridge":"cni0"}]}`,
		`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","capabilities":["mac"]}]}`,
		`{"cniVersion":"1.0.0","type":"bridge"}`,
		`{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"plumb","plugins":[{"type":"bridge","isGatway":true}]}]}`,
		`{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"plumb"}]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"bridge","dns":{"nameserver":"10.0.0.1"}}`,
		`{"cniVersion":"1.0.0","name":"n","type":"bridge","vlanTrunk":[{"id":7},{"minID":10}]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"bridge","vlanTrunk":[{"id":0}]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"portmap","markMasqBit":3,"externalSetMarkChain":"X"}`,
		`{"cniVersion":"1.0.0","name":"n","type":"portmap","runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":80}]}}`,
		`{"cniVersion":"1.0.0","name":"n","type":"portmap","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]}}`,
		`{"cniVersion":"1.0.0","name":"n","type":"bandwidth","egressRate":8000,"shapedSubnets":["10.0.0.0/8"],"unshapedSubnets":["fd00::/8"]}`,
		`{"cniVersion":"1.0.0","name":"n","type":"sbr","table":7,"gateway":"10.0.0.1"}`,
		`{"cniVersion":"1.0.0","name":"n","type":"macvlan","ipam":{"type":"dhcp","provide":{}}}`,
	} {
		if editor.Mistake(t, bad) == nil {
			t.Errorf("nothing is said of %s", bad)
		}
	}
}

// TestDescribed looks for what an editor says of a key, which is in the plugin's document.
func TestDescribed(t *testing.T) {
	for _, p := range all.Plugins() {
		if docs.Summary(p.Name()) == "" {
			t.Errorf("%s: there is no document", p.Name())
		}
		lines := docs.KeysOf(p.Name())
		for _, key := range p.Keys() {
			said := false
			for path := key; path != "" && !said; path = path[:max(0, strings.LastIndex(path, "."))] {
				said = path != "ipam" && lines.About(path) != ""
			}
			if !said {
				t.Errorf("docs/plugins/%s.md says nothing of %s", p.Name(), key)
			}
		}
	}
}

// A claim is what a tag says of values.
type claim struct {
	path      string // of the key, with dots
	good, bad []any
}

// claims returns those of a type's fields that are about single values.
func claims(t reflect.Type, path string) (list []claim) {
	t = plugin.ShapeOf(t)
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := strings.TrimPrefix(path+"."+name, ".")
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if f.Anonymous && name == "" {
			list = append(list, claims(kind, path)...)
			continue
		}
		if kind.Kind() == reflect.Struct && name != "" && plugin.ShapeOf(kind) == kind {
			list = append(list, claims(kind, inner)...)
			continue
		}
		c := claim{path: inner}
		for term := range strings.FieldsSeq(f.Tag.Get("schema")) {
			name, value, _ := strings.Cut(term, "=")
			n, err := strconv.ParseFloat(value, 64)
			switch {
			case name == "enum":
				for word := range strings.SplitSeq(value, "|") {
					c.good = append(c.good, word)
				}
				c.bad = append(c.bad, "nonsense")
			case name == "min" && err == nil:
				c.good = append(c.good, n)
				if n != 1 || f.Type.Kind() == reflect.Pointer { // 0 is unset
					c.bad = append(c.bad, n-1)
				}
			case name == "max" && err == nil && kind.Kind() == reflect.String:
				c.good, c.bad = append(c.good, strings.Repeat("x", int(n))), append(c.bad, strings.Repeat("x", int(n)+1))
			case name == "max" && err == nil:
				c.good, c.bad = append(c.good, n), append(c.bad, n+1)
			case term == "is=path":
				c.good, c.bad = append(c.good, "/etc/hosts"), append(c.bad, "etc/hosts")
			case term == "is=interface":
				c.good, c.bad = append(c.good, "..x", "x-y.7@é"), append(c.bad, "..", ".", "a/b", "a:b", "a b", "sixteen-letters-")
			case term == "is=address":
				c.good, c.bad = append(c.good, "10.88.0.3"), append(c.bad, "first", "10.88.0.3/16")
			case term == "is=subnet":
				c.good, c.bad = append(c.good, []string{"10.0.0.0/8", "fd00::/64"}), append(c.bad, []string{"10.0.0.0"}, []string{"lan"})
				if kind.Kind() == reflect.String {
					c.good, c.bad = []any{"10.88.0.0/16"}, []any{"10.88.0.0", "lan"}
				}
			case term == "is=mac":
				c.good = append(c.good, "02:00:5e:10:00:01", "02-00-5E-10-00-01", "0200.5e10.0001")
				c.bad = append(c.bad, "01:00:5e:00:00:01", "red", "02:00", "0300.5e10.0001")
			case term == "is=hardware":
				c.good = append(c.good, "02:00:5e:10:00:01", "02-00-5E-10-00-01", "0200.5e10.0001", "02:00:5e:10:00:00:00:01")
				c.bad = append(c.bad, "01:00:5e:00:00:01", "x", "02:00")
			case term == "is=word":
				c.good, c.bad = append(c.good, "a-b_c.d"), append(c.bad, "a b", "é", "-X")
			case term == "names=setting":
				c.good = append(c.good, map[string]string{"net.core.somaxconn": "1"}, map[string]string{"net/ipv4/conf/eth0.7/forwarding": "1"})
				c.bad = append(c.bad, map[string]string{"kernel.panic": "1"}, map[string]string{"net": "1"}, map[string]int{"net.core.somaxconn": 1}, []string{"x"})
			}
		}
		if c.good != nil {
			list = append(list, c)
		}
	}
	return list
}

// bases are what plugins need besides the key that is looked at.
var bases = map[string]string{
	"ptp":        `"ipam":{"type":"host-local","subnet":"10.88.0.0/16"}`,
	"dummy":      `"ipam":{"type":"host-local","subnet":"10.88.0.0/16"}`,
	"vlan":       `"master":"lo","vlanId":7,"ipam":{"type":"host-local","subnet":"10.88.0.0/16"}`,
	"ipvlan":     `"master":"lo","ipam":{"type":"host-local","subnet":"10.88.0.0/16"}`,
	"macvlan":    `"master":"lo"`,
	"vrf":        `"vrfname":"blue"`,
	"dnsname":    `"domainName":"dns.test"`,
	"host-local": `"ipam":{"type":"host-local","subnet":"10.88.0.0/16"}`,
	"static":     `"ipam":{"type":"static"}`,
	"dhcp":       `"ipam":{"type":"dhcp"}`,
}

// with returns a plugin's configuration with a key set.
func with(t *testing.T, name, path string, value any) string {
	t.Helper()
	var config map[string]any
	base := bases[name]
	if base != "" {
		base = "," + base
	}
	if err := json.Unmarshal(fmt.Appendf(nil, `{"cniVersion":"1.1.0","name":"n","type":%q%s}`, name, base), &config); err != nil {
		t.Fatal(err)
	}
	object := config
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		if object[key] == nil {
			object[key] = map[string]any{}
		}
		object = object[key].(map[string]any)
	}
	object[keys[len(keys)-1]] = value
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// refused tells whether a plugin has something against its configuration. STATUS looks at it and makes nothing.
func refused(p plugin.Plugin, config string) error {
	own := func(name string, _ []string) plugin.IPAM {
		for _, p := range all.IPAM() {
			if p.Name() == name {
				return p
			}
		}
		return nil
	}
	_, err := p.Serve(context.Background(), &plugin.Host{Own: own}, &cni.Request{Verb: cni.VerbStatus, Config: []byte(config), Path: []string{"/nowhere"}})
	if err == nil {
		return nil
	}
	if code := cni.AsError(err).Code; code == cni.CodeInvalidConfig || code == cni.CodeDecode {
		return err
	}
	return nil // of the host, which has no such device or daemon
}

// TestTags holds that plugin and schema agree about the values that tags speak of.
func TestTags(t *testing.T) {
	looked := 0
	for _, p := range all.Plugins() {
		list := claims(p.Config(), "")
		for _, key := range p.Keys() {
			if key == "defaultRoute" {
				list = append(list, claim{key, []any{"auto", "never", 1, math.MaxInt32}, []any{"always", 0, -1, math.MaxInt32 + 1, 1.5}})
			}
		}
		for _, c := range list {
			looked++
			for _, value := range c.good {
				config := with(t, p.Name(), c.path, value)
				if err := editor.Mistake(t, config); err != nil {
					t.Errorf("schema: %s: %v", config, err)
				}
				if err := refused(p, config); err != nil {
					t.Errorf("%s: %v", config, err)
				}
			}
			for _, value := range c.bad {
				config := with(t, p.Name(), c.path, value)
				if editor.Mistake(t, config) == nil {
					t.Errorf("schema: nothing is said of %s", config)
				}
				if refused(p, config) == nil {
					t.Errorf("%s has nothing against %s", p.Name(), config)
				}
			}
		}
	}
	if looked < 40 {
		t.Errorf("%d keys were looked at", looked)
	}
}

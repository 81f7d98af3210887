package cni

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzResult: what can be decoded can be encoded in every version, decoded again
// with the loss of that version alone, and is stable from then on.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{ // short ones: the fuzzer takes its time to minimize
		`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0","mtu":9}]},"dns":{"domain":"d"}}`,
		`{"ip6":{"ip":"fd00::2/64","routes":[{"dst":"::/0","gw":"fd00::1"}]}}`,
		`{"cniVersion":"0.3.0","ip":[{"address":"::ffff:10.0.0.2/120"}]}`,
		`{"cniVersion":"0.4.0","interfaces":[{"name":"a","mac":"b","sandbox":"c"}],"ips":[{"version":"4","address":"10.0.0.2/24","interface":-1}]}`,
		`{"interfaces":[{"name":"a","mtu":1,"pciID":"p","socketPath":"s"}],"ips":[{"address":"10.0.0.2/24","interface":0}]}`,
		`{"routes":[{"dst":"::/0","mtu":1,"advmss":2,"priority":3,"table":4,"scope":5}],"dns":{"search":["a"],"options":[]}}`,
		`{"cniVersion":"9.0.0"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeResult(data, V110)
		if err != nil {
			isError(t, err, CodeDecode, CodeIncompatibleVersion)
			return
		}
		for _, v := range Versions() {
			once := recode(t, r, v)
			if v == r.CNIVersion && v.AtLeast(V030) && !reflect.DeepEqual(once, r) {
				t.Errorf("%s: got %+v, want %+v", v, once, r)
			}
			if up := recode(t, once, Latest); !reflect.DeepEqual(with(up.Clone(), v), once) {
				t.Errorf("%s to %s: got %+v, want %+v", v, Latest, up, once)
			}
			if twice := recode(t, once, v); !reflect.DeepEqual(twice, once) {
				t.Errorf("%s: got %+v, want %+v", v, twice, once)
			}
		}
		if c := r.Clone(); !reflect.DeepEqual(c, r) {
			t.Errorf("cloned %+v, want %+v", c, r)
		}
	})
}

// FuzzConfig: a plugin's configuration survives Derive, which keeps every value
// that it isn't asked for; a list survives its own Raw.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		`{"cniVersion":"1.0.0","name":"n","type":"t","capabilities":{"a":true},"ipam":{"type":"x"},"dns":{"search":["a"]},"args":{"cni":{}},"runtimeConfig":{}}`,
		`{"cniVersion":"0.4.0","name":"n","type":"t","prevResult":{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}]}}`,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}],"cni.dev/attachments":null}`,
		`{"cniVersion":"1.0.0","cniVersions":["0.4.0","2.0.0"],"name":"n","disableCheck":"true","disableGC":true,"loadOnlyInlinedPlugins":false,"plugins":[{"type":"a","big":1e400},{"Type":"b"}]}`,
		`{"NAME":"n","TYPE":"t","name":"m","a":1,"A":2}`,
		`{"name":"n"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig(data); err != nil {
			isError(t, err, CodeDecode, CodeInvalidConfig, CodeIncompatibleVersion)
		} else {
			checkDerive(t, c)
		}
		l, err := ParseList(data)
		if err != nil {
			isError(t, err, CodeDecode, CodeInvalidConfig, CodeIncompatibleVersion)
			return
		}
		again, err := ParseList(l.Raw)
		if err != nil {
			t.Fatalf("%s: %v", l.Raw, err)
		}
		if l.Single {
			// Only the blanks around the plugin are lost.
			again.Single, again.Plugins[0].Raw, again.Raw = true, l.Plugins[0].Raw, l.Raw
		}
		if !reflect.DeepEqual(again, l) {
			t.Errorf("got %+v, want %+v", again, l)
		}
	})
}

func checkDerive(t *testing.T, c *Config) {
	raw, err := Derive(c.Raw, map[string]any{"name": "derived", "cniVersion": V100}, "prevResult", "Type")
	if err != nil {
		t.Fatal(err)
	}
	derived, err := ParseConfig(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if derived.Name != "derived" || derived.CNIVersion != V100 || derived.Type != "" || derived.PrevResult != nil {
		t.Errorf("got %+v", derived)
	}
	before, err := parseObject(c.Raw, "before")
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseObject(raw, "after")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "cniVersion", "prevResult", "type"} {
		before, after = before.drop(key), after.drop(key)
	}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("got %s, want %s", after.encode(), before.encode())
	}
	for _, m := range after {
		if !json.Valid(m.value) || !bytes.Contains(c.Raw, m.value) {
			t.Errorf("%s was changed: %s", m.key, m.value)
		}
	}
}

// FuzzArgs: what is accepted is nothing but pairs, and each can be got.
func FuzzArgs(f *testing.F) {
	for _, seed := range []string{
		"", "IP=10.0.0.2;MAC=02:00:00:00:00:01", "IgnoreUnknown=1;K8S_POD_NAME=a", "a=b;a=c;=", "A", "A=b=c;", "IgnoreUnknown=maybe",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseArgs(s)
		if err != nil {
			isError(t, err, CodeInvalidEnvironment)
			return
		}
		var pairs, keys []string
		for _, pair := range a.pairs {
			if _, ok := a.Get(pair[0]); !ok || strings.ContainsAny(pair[0]+pair[1], ";=") {
				t.Errorf("pair %q", pair)
			}
			pairs, keys = append(pairs, pair[0]+"="+pair[1]), append(keys, pair[0])
		}
		if got := strings.Join(pairs, ";"); got != s {
			t.Errorf("got %q, want %q", got, s)
		}
		if err := a.Check(keys...); err != nil {
			t.Error(err)
		}
	})
}

// isError checks that err is an *Error of one of the codes and says something.
func isError(t *testing.T, err error, codes ...Code) {
	t.Helper()
	e := AsError(err)
	for _, code := range codes {
		if e.Code == code && e.Msg != "" {
			return
		}
	}
	t.Errorf("got code %d: %v", uint(e.Code), err)
}

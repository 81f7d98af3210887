package cni

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	data := `{
		"cniVersion": "1.0.0", "name": "n", "type": "bridge",
		"capabilities": {"mac": true, "ips": false},
		"ipam": {"type": "host-local", "subnet": "10.0.0.0/24"},
		"dns": {"nameservers": ["10.0.0.1"], "search": []},
		"args": {"cni": {"ips": ["10.0.0.7"]}},
		"runtimeConfig": {"mac": "02:00:00:00:00:01"},
		"prevResult": {"ips": [{"address": "10.0.0.7/24"}]},
		"bridge": "cni0"
	}`
	c, err := ParseConfig([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	prev, err := DecodeResult([]byte(`{"ips":[{"address":"10.0.0.7/24"}]}`), V100)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		CNIVersion: V100, Name: "n", Type: "bridge",
		Capabilities:  map[string]bool{"mac": true, "ips": false},
		IPAM:          IPAM{"host-local", []byte(`{"type": "host-local", "subnet": "10.0.0.0/24"}`)},
		DNS:           DNS{Nameservers: []string{"10.0.0.1"}},
		Args:          []byte(`{"cni": {"ips": ["10.0.0.7"]}}`),
		RuntimeConfig: []byte(`{"mac": "02:00:00:00:00:01"}`),
		PrevResult:    prev,
		Raw:           []byte(data),
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
}

func TestParseConfigDetails(t *testing.T) {
	for data, check := range map[string]func(*Config) bool{
		`{"name":"n"}`:                                 func(c *Config) bool { return c.CNIVersion == V020 && c.Type == "" && !c.HasValid },
		`{"name":"n","cniVersion":""}`:                 func(c *Config) bool { return c.CNIVersion == V020 },
		`{"NAME":"n","CniVersion":"1.1.0","TYPE":"x"}`: func(c *Config) bool { return c.CNIVersion == V110 && c.Type == "x" },
		`{"name":"n","ipam":{}}`:                       func(c *Config) bool { return c.IPAM.Type == "" && string(c.IPAM.Raw) == "{}" },
		`{"name":"n","ipam":null}`:                     func(c *Config) bool { return c.IPAM.Raw == nil },
		`{"name":"n","Ipam":{"TYPE":"dhcp"}}`:          func(c *Config) bool { return c.IPAM.Type == "dhcp" },
		`{"name":"n","prevResult":null}`:               func(c *Config) bool { return c.PrevResult == nil },
		`{"name":"n","prevResult":{}}`:                 func(c *Config) bool { return c.PrevResult.CNIVersion == V020 },
		`{"name":"n","prevResult":{"cniVersion":"0.4.0","ips":[{"address":"::1/128"}]}}`: func(c *Config) bool {
			return c.PrevResult.CNIVersion == V040 && len(c.PrevResult.IPs) == 1
		},
		`{"name":"n","cni.dev/valid-attachments":null}`: func(c *Config) bool { return c.HasValid && len(c.Valid) == 0 },
		`{"name":"n","cni.dev/attachments":[]}`:         func(c *Config) bool { return c.HasValid && len(c.Valid) == 0 },
		`{"name":"n","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],"cni.dev/attachments":[{"containerID":"b","ifname":"eth0"},{"containerID":"a","ifname":"eth0"}]}`: func(c *Config) bool {
			return c.HasValid && reflect.DeepEqual(c.Valid, []Attachment{{"a", "eth0"}, {"b", "eth0"}})
		},
	} {
		if c, err := ParseConfig([]byte(data)); err != nil || !check(c) {
			t.Errorf("%s: got %+v, %v", data, c, err)
		}
	}
}

func TestParseBadConfig(t *testing.T) {
	for data, want := range map[string]struct {
		code Code
		text string
	}{
		``:                                    {CodeDecode, "decode configuration: unexpected end of JSON input"},
		`{"name":"n"`:                         {CodeDecode, "unexpected end"},
		`null`:                                {CodeDecode, "not a JSON object"},
		`[{"name":"n"}]`:                      {CodeDecode, "not a JSON object"},
		`{"name":1}`:                          {CodeDecode, "name has to be a string, not a number"},
		`{}`:                                  {CodeInvalidConfig, "network name is missing"},
		`{"name":"a/b"}`:                      {CodeInvalidConfig, `invalid network name "a/b"`},
		`{"name":"n","cniVersion":"0.5.0"}`:   {CodeIncompatibleVersion, `"0.5.0"`},
		`{"name":"n","cniVersion":1}`:         {CodeDecode, "cniVersion has to be a string, not a number"},
		`{"name":"n","type":"../x"}`:          {CodeInvalidConfig, `invalid type "../x"`},
		`{"name":"n","type":".."}`:            {CodeInvalidConfig, `invalid type ".."`},
		`{"name":"n","ipam":"dhcp"}`:          {CodeDecode, "decode ipam: not a JSON object"},
		`{"name":"n","ipam":{"type":1}}`:      {CodeDecode, "decode ipam: type has to be a string, not a number"},
		`{"name":"n","ipam":{"type":"/x"}}`:   {CodeInvalidConfig, `invalid ipam type "/x"`},
		`{"name":"n","capabilities":{"a":1}}`: {CodeDecode, "each of capabilities has to be true or false, not a number"},
		`{"name":"n","dns":{"search":"a"}}`:   {CodeDecode, "dns.search has to be a list, not a string"},
		`{"name":"n","prevResult":[]}`:        {CodeDecode, "prevResult: decode result: not a JSON object"},
		`{"name":"n","cniVersion":"1.0.0","prevResult":{"ips":[{"address":"x"}]}}`: {CodeDecode, `prevResult: decode result: ips[0]: address: "x" is not`},
		`{"name":"n","prevResult":{"cniVersion":"7.0.0"}}`:                         {CodeIncompatibleVersion, `"7.0.0"`},
		`{"name":"n","cni.dev/valid-attachments":{}}`:                              {CodeDecode, "valid attachments"},
	} {
		c, err := ParseConfig([]byte(data))
		if c != nil || err == nil || AsError(err).Code != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %v, %v, want %v", data, c, err, want)
		}
	}
}

// TestEmbedded: a plugin that embeds one of these types in its configuration keeps its own fields.
func TestEmbedded(t *testing.T) {
	for _, v := range []any{
		struct {
			Config
			Own string
		}{Own: "kept"},
		struct {
			*Request
			Own string
		}{&Request{}, "kept"},
		struct {
			Result
			Own string
		}{Own: "kept"},
	} {
		data, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(data), `"Own":"kept"`) {
			t.Errorf("%T: %s, %v", v, data, err)
		}
	}
}

func TestDerive(t *testing.T) {
	for _, c := range []struct {
		raw  string
		set  map[string]any
		drop []string
		want string
	}{
		{`{}`, nil, nil, `{}`},
		{` { "b" : 1 , "a" : [ 1, 2 ] } `, nil, nil, `{"b":1,"a":[ 1, 2 ]}`},
		{`{"big":12345678901234567890123,"f":1.50,"s":"\u003c<\ud83d\ude00"}`, nil, []string{"x"}, `{"big":12345678901234567890123,"f":1.50,"s":"\u003c<\ud83d\ude00"}`},
		{`{"Name":"a","x":1,"NAME":"b"}`, map[string]any{"name": "c"}, nil, `{"x":1,"name":"c"}`},
		{`{"type":"t"}`, map[string]any{"name": "n", "cniVersion": V100}, nil, `{"type":"t","cniVersion":"1.0.0","name":"n"}`},
		{`{"Capabilities":{},"a":1}`, nil, []string{"capabilities"}, `{"a":1}`},
		{`{"a":1,"a":2}`, nil, nil, `{"a":1,"a":2}`},
		{`{"a":{"name":"in"}}`, map[string]any{"name": nil}, nil, `{"a":{"name":"in"},"name":null}`},
	} {
		if got, err := Derive([]byte(c.raw), c.set, c.drop...); err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.raw, got, err, c.want)
		}
	}
	for _, raw := range []string{``, `null`, `[]`, `{"a":}`, `{} x`} {
		if got, err := Derive([]byte(raw), nil); got != nil || !errors.Is(err, CodeDecode) {
			t.Errorf("%s: got %s, %v", raw, got, err)
		}
	}
	if _, err := Derive([]byte(`{}`), map[string]any{"a": func() {}}); !errors.Is(err, CodeInternal) {
		t.Errorf("a value that can't be encoded: %v", err)
	}
}

package cni

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	data := `{"cniVersion":"0.4.0","cniVersions":["0.3.1","1.0.0","9.0.0","0.4.0"],"name":"n",
		"disableCheck":true,"DisableGC":"True","loadOnlyInlinedPlugins":"false",
		"plugins":[{"type":"bridge","big":12345678901234567890123,"name":"other","cniVersion":"7.0.0","prevResult":{"ips":"x"}},{"Type":"portmap"}]}`
	l, err := ParseList([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := &List{
		Name: "n", CNIVersion: V100, CNIVersions: []Version{V031, V040, V100},
		DisableCheck: true, DisableGC: true,
		Plugins: []*Config{
			{CNIVersion: V100, Name: "n", Type: "bridge", Raw: []byte(`{"type":"bridge","big":12345678901234567890123,"name":"other","cniVersion":"7.0.0","prevResult":{"ips":"x"}}`)},
			{CNIVersion: V100, Name: "n", Type: "portmap", Raw: []byte(`{"Type":"portmap"}`)},
		},
		Raw: []byte(data),
	}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("got %+v\nwant %+v", l, want)
	}
}

func TestParseSingle(t *testing.T) {
	data := ` {"cniVersion":"0.3.1","cniVersions":["1.0.0"],"name":"n","type":"ptp","disableCheck":true,"ipam":{"type":"static"}} `
	l, err := ParseList([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := &List{
		Name: "n", CNIVersion: V031, CNIVersions: []Version{V031}, Single: true,
		Plugins: []*Config{{
			CNIVersion: V031, Name: "n", Type: "ptp", Raw: []byte(data),
			IPAM: IPAM{"static", []byte(`{"type":"static"}`)},
		}},
		Raw: []byte(`{"cniVersion":"0.3.1","name":"n","plugins":[` + strings.TrimSpace(data) + `]}`),
	}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("got %+v\nwant %+v", l, want)
	}
	again, err := ParseList(l.Raw)
	if err != nil || again.Single || len(again.Plugins) != 1 || again.CNIVersion != V031 || again.DisableCheck {
		t.Errorf("parsed again: %+v, %v", again, err)
	}
}

func TestSelectVersions(t *testing.T) {
	for data, want := range map[string][]Version{ // nil is an error
		``:                                {V010},
		`"cniVersion":""`:                 {V010},
		`"cniVersion":"1.1.0"`:            {V110},
		`"cniVersions":["1.0.0","0.3.0"]`: {V030, V100},
		`"cniVersion":"1.1.0","cniVersions":["0.4.0"]`: {V040, V110},
		`"cniVersion":"2.0.0","cniVersions":["0.4.0"]`: {V040},
		`"cniVersion":"1.0.0","cniVersions":[]`:        {V100},
		`"cniVersions":[]`:                             {V010},
		`"cniVersion":"2.0.0"`:                         nil,
		`"cniVersion":"1.0"`:                           nil,
		`"cniVersion":"0.5.0","cniVersions":[]`:        nil,
		`"cniVersions":["2.0.0","3.0.0"]`:              nil,
		`"cniVersions":["1.0.0","latest"]`:             nil,
	} {
		list := strings.Replace(`{"name":"n","plugins":[{"type":"x"}],`+data+`}`, ",}", "}", 1)
		l, err := ParseList([]byte(list))
		if want == nil {
			if l != nil || AsError(err).Code != CodeIncompatibleVersion {
				t.Errorf("%s: got %+v, %v", data, l, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(l.CNIVersions, want) || l.CNIVersion != want[len(want)-1] || l.Plugins[0].CNIVersion != l.CNIVersion {
			t.Errorf("%s: got %+v, %v, want %v", data, l, err, want)
		}
	}
}

func TestParseBadList(t *testing.T) {
	for data, want := range map[string]struct {
		code Code
		text string
	}{
		``:                           {CodeDecode, "unexpected end"},
		`[]`:                         {CodeDecode, "not a JSON object"},
		`{"plugins":[{"type":"x"}]}`: {CodeInvalidConfig, "network name is missing"},
		`{"type":"x"}`:               {CodeInvalidConfig, "network name is missing"},
		`{"name":"../n","plugins":[{"type":"x"}]}`: {CodeInvalidConfig, "invalid network name"},
		`{"name":7}`:                                                  {CodeDecode, "name has to be a string, not a number"},
		`{"name":"n","plugins":[]}`:                                   {CodeInvalidConfig, `network "n": plugins is empty`},
		`{"name":"n","plugins":null}`:                                 {CodeDecode, `plugins is not a list`},
		`{"name":"n","plugins":{"type":"x"}}`:                         {CodeDecode, `plugins is not a list`},
		`{"name":"n","plugins":["x"]}`:                                {CodeDecode, `plugins[0]: decode configuration: not a JSON object`},
		`{"name":"n","plugins":[{"type":"x"},{}]}`:                    {CodeInvalidConfig, `plugins[1]: type is missing`},
		`{"name":"n","plugins":[{"type":"a/b"}]}`:                     {CodeInvalidConfig, `plugins[0]: invalid type "a/b"`},
		`{"name":"n","type":""}`:                                      {CodeInvalidConfig, `network "n": type is missing`},
		`{"name":"n","type":null}`:                                    {CodeInvalidConfig, `network "n": type is missing`},
		`{"name":"n","type":["x"]}`:                                   {CodeDecode, `type has to be a string, not a list`},
		`{"name":"n","loadOnlyInlinedPlugins":true}`:                  {CodeInvalidConfig, `plugins is missing`},
		`{"name":"n","disableCheck":1,"plugins":[{"type":"x"}]}`:      {CodeDecode, `disableCheck: 1 is neither`},
		`{"name":"n","disableGC":"yes","plugins":[{"type":"x"}]}`:     {CodeDecode, `disableGC: "yes" is neither`},
		`{"name":"n","disableGC":null,"plugins":[{"type":"x"}]}`:      {CodeDecode, `disableGC: null is neither`},
		`{"name":"n","cniVersions":"1.0.0","plugins":[{"type":"x"}]}`: {CodeDecode, `cniVersions has to be a list, not a string`},
		`{"name":"n","cniVersions":[1],"plugins":[{"type":"x"}]}`:     {CodeDecode, `each of cniVersions has to be a string, not a number`},
	} {
		l, err := ParseList([]byte(data))
		if l != nil || err == nil || AsError(err).Code != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %+v, %v, want %v", data, l, err, want)
		}
	}
}

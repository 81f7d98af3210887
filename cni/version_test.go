package cni

import (
	"errors"
	"reflect"
	"slices"
	"testing"
)

func TestVersionOrder(t *testing.T) {
	ascending := []Version{"nonsense", V010, V020, V030, V031, V040, "0.10.0", V100, V110, "1.10.0", "2.0.0"}
	for i, v := range ascending {
		for j, w := range ascending {
			if (v.Compare(w) < 0) != (i < j) || (v.Compare(w) > 0) != (i > j) || v.AtLeast(w) != (i >= j) {
				t.Errorf("%s, %s: compare %d, at least %v", v, w, v.Compare(w), v.AtLeast(w))
			}
		}
	}
	if !slices.IsSortedFunc(Versions(), Version.Compare) || slices.Max(Versions()) != Latest {
		t.Error("the versions are not in order:", Versions())
	}
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]Version{
		"": V010, "0.1.0": V010, "1.1.0": V110,
		"1.2.0": "", "1.0": "", "1.0.0 ": "", "v1.0.0": "", "1.0.0.0": "", "1..0": "", "+1.0.0": "",
	} {
		if v, err := ParseVersion(s); v != want || (want == "") != errors.Is(err, CodeIncompatibleVersion) {
			t.Errorf("%q: got %q, %v", s, v, err)
		}
	}
}

func TestVersions(t *testing.T) {
	want := `{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}` + "\n"
	if got := EncodeVersions(V100, []Version{V040, V100}); string(got) != want {
		t.Errorf("got %s", got)
	}
	if got := EncodeVersions("", []Version{V110}); string(got) != `{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}`+"\n" {
		t.Errorf("got %s", got)
	}
	for data, want := range map[string][]Version{
		want: {V040, V100},
		`{"cniVersion":"1.1.0","supportedVersions":["1.0.0","3.0.0"]}`: {V100, "3.0.0"},
		`{"cniVersion":"0.2.0"}`:             {V010, V020},
		`{"cniVersion":"1.0.0"}`:             nil,
		`{"supportedVersions":["1.0.0"]}`:    nil,
		`null`:                               nil,
		`{"cniVersion":"1.0.0"`:              nil,
		`{"supportedVersions":"1.0.0"}`:      nil,
		`{"code":4,"msg":"unknown command"}`: nil,
	} {
		got, err := DecodeVersions([]byte(data))
		if !reflect.DeepEqual(got, want) || (want == nil) != errors.Is(err, CodeDecode) {
			t.Errorf("%s: got %v, %v", data, got, err)
		}
	}
}

package cni

import (
	"encoding/json"
	"testing"
)

// TestDecodeInWords: what is wrong is said in terms of the document: the key, what belongs there, what was found.
func TestDecodeInWords(t *testing.T) {
	type Embedded struct {
		Master string `json:"master"`
		Deep   struct {
			Here []int `json:"here"`
		} `json:"deep"`
	}
	type document struct {
		Embedded
		MTU     int             `json:"mtu"`
		Bit     *uint8          `json:"bit"`
		Table   uint32          `json:"table"`
		Rate    uint64          `json:"rate"`
		Share   float64         `json:"share"`
		Masq    bool            `json:"masq"`
		Accept  *bool           `json:"accept"`
		Words   []string        `json:"words"`
		Flags   map[string]bool `json:"flags"`
		Nested  struct{ Name string }
		Objects []struct {
			ID *int `json:"id"`
		} `json:"objects"`
	}
	for data, want := range map[string]string{
		`{"mtu":"large"}`:               `decode thing: mtu has to be a whole number, not a string`,
		`{"mtu":1.5}`:                   `decode thing: mtu has to be a whole number, not 1.5`,
		`{"mtu":1e3}`:                   `decode thing: mtu has to be a whole number, not 1e3`,
		`{"mtu":true}`:                  `decode thing: mtu has to be a whole number, not true or false`,
		`{"bit":256}`:                   `decode thing: bit has to be a whole number from 0 to 255, not 256`,
		`{"table":-1}`:                  `decode thing: table has to be a whole number from 0 to 4294967295, not -1`,
		`{"rate":-1}`:                   `decode thing: rate has to be a whole number, 0 or more, not -1`,
		`{"share":"half"}`:              `decode thing: share has to be a number, not a string`,
		`{"masq":"yes"}`:                `decode thing: masq has to be true or false, not a string`,
		`{"accept":0}`:                  `decode thing: accept has to be true or false, not a number`,
		`{"words":"one"}`:               `decode thing: words has to be a list, not a string`,
		`{"words":["one",2]}`:           `decode thing: each of words has to be a string, not a number`,
		`{"words":{"one":1}}`:           `decode thing: words has to be a list, not an object`,
		`{"flags":["a"]}`:               `decode thing: flags has to be an object, not a list`,
		`{"flags":{"a":"b"}}`:           `decode thing: each of flags has to be true or false, not a string`,
		`{"Nested":{"Name":[]}}`:        `decode thing: Nested.Name has to be a string, not a list`,
		`{"objects":[{"id":"seven"}]}`:  `decode thing: objects.id has to be a whole number, not a string`,
		`{"objects":[7]}`:               `decode thing: each of objects has to be an object, not a number`,
		`{"master":7}`:                  `decode thing: master has to be a string, not a number`,
		`{"deep":{"here":[1,"2"]}}`:     `decode thing: each of deep.here has to be a whole number, not a string`,
		`7`:                             `decode thing: not a JSON object`,
		`null`:                          `decode thing: not a JSON object`,
		"{\n  \"mtu\": 1500,\n  mtu: 2": `decode thing: invalid character 'm' looking for beginning of object key string (line 3, column 3)`,
		`{"mtu":1500`:                   `decode thing: unexpected end of JSON input (line 1, column 11)`,
		``:                              `decode thing: unexpected end of JSON input (line 1, column 0)`,
	} {
		err := Decode([]byte(data), new(document), "thing")
		if err == nil || err.Error() != want || AsError(err).Code != CodeDecode {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
	var list []Attachment
	for data, want := range map[string]string{
		`"all"`:               "it has to be a list, not a string",
		`[{"containerID":7}]`: "containerID has to be a string, not a number",
	} {
		err := inWords(json.Unmarshal([]byte(data), &list), []byte(data), &list)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", data, err, want)
		}
	}
}

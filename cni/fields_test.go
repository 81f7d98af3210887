package cni

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// What encoding/json alone knows of the structures of results, by their tags.
type (
	taggedV1  resultV1
	taggedV03 resultV03
)

// documents are decoded alike by encoding/json and by fields.
var documents = []string{
	`{}`, ` {"cniVersion" : "1.1.0" } `, `null`, `[]`, `7`, `"x"`, ``, `{`, `{}}`, `{"dns":`,
	`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":0},{"address":"fd00::2/64"}]}`,
	"{\n\t\"interfaces\": [\r\n {\"name\":\"eth0\",\"mtu\":1500 , \"mac\":\"a\"} ,{}\n] }",
	`{"routes":[{"dst":"::/0","mtu":1,"advmss":2,"priority":3,"table":4,"scope":5}],"dns":{"search":["a","b"],"options":[]}}`,
	`{"ips":null,"dns":null,"cniVersion":null,"routes":[null]}`,
	`{"IPS":[{"ADDRESS":"a","Interface":null}],"CniVersion":"x","\u0069ps":[]}`,
	`{"cniVersion":"\u0031\n\"\\ü","unknown":{"a":[1,"]}",{"b":"\\\""}],"":null},"dns":{"domain":"<&>\u2028"}}`,
	"{\"cniVersion\":\"\xff\",\"dns\":{\"domain\":\"\x7f\"}}",
	`{"unknown":-1.5e3,"other":true,"cniVersion":"1","third":[],"fourth":{}}`,
	`{"cniVersion":1}`, `{"ips":{}}`, `{"ips":"x"}`, `{"ips":[5]}`, `{"ips":[{"address":{}}]}`, `{"ips":[{"interface":"0"}]}`, `{"ips":[{"interface":1.5}]}`,
	`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"},{"version":6}],"ip":[{}],"dns":{"nameservers":[]}}`,
	`{"dns":[]}`, `{"dns":{"search":"a"}}`, `{"dns":{"search":[1]}}`, `{"interfaces":[{"mtu":-1}]}`, `{"routes":[{"mtu":true}]}`,
}

func TestFields(t *testing.T) {
	for _, document := range documents {
		checkFields(t, []byte(document))
	}
}

func FuzzFields(f *testing.F) {
	for _, document := range documents {
		f.Add([]byte(document))
	}
	f.Fuzz(checkFields)
}

// checkFields decodes and encodes a document both ways.
func checkFields(t *testing.T, document []byte) {
	t.Helper()
	if !json.Valid(document) || repeats(bytes.Trim(document, blanks)) {
		return // where a key is there twice, encoding/json decodes the later value into the earlier
	}
	var v1 resultV1
	var tagged1 taggedV1
	err := json.Unmarshal(document, &tagged1)
	dropEmpty(&tagged1.DNS.Nameservers, &tagged1.DNS.Options, &tagged1.DNS.Search) // which omitzero would not
	checkStructure(t, document, &v1, tagged1, err, func() any {
		dropEmpty(&v1.DNS.Nameservers, &v1.DNS.Options, &v1.DNS.Search)
		return taggedV1(v1)
	})
	var v03 resultV03
	var tagged03 taggedV03
	err = json.Unmarshal(document, &tagged03)
	checkStructure(t, document, &v03, tagged03, err, func() any { return taggedV03(v03) })

	var plain map[string]json.RawMessage
	if json.Unmarshal(document, &plain) != nil || plain == nil {
		return
	}
	o := map[string]json.RawMessage{}
	for key, value := range members(document) {
		o[key] = value
	}
	if !reflect.DeepEqual(o, plain) {
		t.Errorf("%q has the members %s, want %s", document, o, plain)
	}
}

// checkStructure decodes a document into a structure, compares that with what
// encoding/json has decoded or said, and encodes it.
func checkStructure(t *testing.T, document []byte, s structure, want any, wantErr error, got func() any) {
	t.Helper()
	err := decodeValue(bytes.Trim(document, blanks), s)
	if (wantErr == nil) != (err == nil) || wantErr == nil && !reflect.DeepEqual(got(), want) {
		t.Fatalf("%q: got %+v, %v, want %+v, %v", document, got(), err, want, wantErr)
	}
	if wantErr != nil {
		return
	}
	encoded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if again := encodeValue(s); string(again) != string(encoded) {
		t.Errorf("%q: got %s, want %s", document, again, encoded)
	}
}

// repeats reports whether an object within a value has a key twice.
func repeats(value []byte) bool {
	seen := map[string]bool{}
	switch value[0] {
	case '{':
		for key, member := range members(value) {
			key = strings.ToLower(strings.ToUpper(key))
			if seen[key] || repeats(member) {
				return true
			}
			seen[key] = true
		}
	case '[':
		for element := range elements(value) {
			if repeats(element) {
				return true
			}
		}
	}
	return false
}

func dropEmpty(lists ...*[]string) {
	for _, list := range lists {
		if len(*list) == 0 {
			*list = nil
		}
	}
}

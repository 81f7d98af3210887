package cni

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// tagged is resultV1 as encoding/json alone knows it.
type tagged resultV1

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
	var want tagged
	var got resultV1
	wantErr := json.Unmarshal(document, &want)
	if !json.Valid(document) {
		return
	}
	gotErr := decodeValue(bytes.Trim(document, blanks), &got)
	if (wantErr == nil) != (gotErr == nil) || wantErr == nil && !reflect.DeepEqual(tagged(got), want) {
		t.Fatalf("%q: got %+v, %v, want %+v, %v", document, got, gotErr, want, wantErr)
	}
	if wantErr != nil {
		return
	}
	for _, list := range []*[]string{&want.DNS.Nameservers, &want.DNS.Options, &want.DNS.Search} {
		if len(*list) == 0 {
			*list = nil // which encoding/json tells from an empty one
		}
	}
	encoded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if again := encodeValue(&got); string(again) != string(encoded) {
		t.Errorf("%q: got %s, want %s", document, again, encoded)
	}
	var o, plain map[string]json.RawMessage
	if json.Unmarshal(document, &plain) != nil || plain == nil {
		return
	}
	o = map[string]json.RawMessage{}
	for key, value := range members(document) {
		o[key] = value
	}
	if !reflect.DeepEqual(o, plain) {
		t.Errorf("%q has the members %s, want %s", document, o, plain)
	}
}

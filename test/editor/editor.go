// Package editor tells what an editor would of a network configuration, by the schema that plumb prints.
package editor

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/plumb-cni/plumb/internal/schema"
	"github.com/plumb-cni/plumb/plugins/all"
)

// compiled is the schema, which takes a moment to compile.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	var ipam []string
	for _, p := range all.IPAM() {
		ipam = append(ipam, p.Name())
	}
	data, err := schema.Networks(all.Plugins(), ipam).Encode()
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const name = "plumb.json"
	c := jsonschema.NewCompiler()
	if err := c.AddResource(name, document); err != nil {
		return nil, err
	}
	return c.Compile(name)
})

// Mistake returns what the schema has against a configuration, nil for nothing.
func Mistake(t testing.TB, config string) error {
	t.Helper()
	s, err := compiled()
	if err != nil {
		t.Fatalf("compile the schema: %v", err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(config))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

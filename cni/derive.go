package cni

import (
	"encoding/json"
	"maps"
	"slices"
)

// Derive returns the JSON object in raw with the keys of set replaced or added
// and those of drop removed (SPEC section 3, "Deriving request configuration
// from plugin configuration"). Every spelling of a key in upper and lower case
// is replaced or removed. All other values stay as they are, byte for byte and in
// their order.
//
// Values of set are encoded by encoding/json: what is JSON already, such as
// Result.Encode returns, has to be a json.RawMessage. Errors are of CodeDecode
// for a raw that is no object, and of CodeInternal for a value that can't be
// encoded.
func Derive(raw json.RawMessage, set map[string]any, drop ...string) ([]byte, error) {
	o, err := parseObject(raw, "configuration")
	if err != nil {
		return nil, err
	}
	for _, key := range drop {
		o = o.drop(key)
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		value, err := json.Marshal(set[key])
		if err != nil {
			return nil, Errorf(CodeInternal, "encode configuration: %s: %w", key, err)
		}
		o = o.set(key, value)
	}
	return o.encode(), nil
}

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// indent is the indentation of what plugins print.
const indent = "    "

// decodeObject decodes the JSON object in data, called what in errors, into a
// struct. It differs from json.Unmarshal in that null is refused and that
// errors are in the terms of the document, not of Go; they have CodeDecode.
func decodeObject(data []byte, into any, what string) error {
	err := json.Unmarshal(data, into)
	wrongType, isWrongType := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case isWrongType && wrongType.Field != "":
		err = fmt.Errorf("%s: unexpected %s", wrongType.Field, wrongType.Value)
	case isWrongType, err == nil && !startsWith(data, '{'):
		err = errors.New("not a JSON object")
	case err == nil:
		return nil
	}
	return Errorf(CodeDecode, "decode %s: %w", what, err)
}

// startsWith reports whether the first character of a JSON text is c.
func startsWith(data []byte, c byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == c
}

// isNull reports whether raw is absent or null, which mean the same in most
// places.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

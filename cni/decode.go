package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// indent is the indentation of what plugins print.
const indent = "    "

// Decode decodes the JSON object in data, called what in errors, into the struct
// that a pointer leads to. It differs from json.Unmarshal in that null is refused
// and that errors are in the terms of the document, not of Go: they name the key,
// what belongs there and what was found. They are of CodeDecode.
func Decode(data []byte, into any, what string) error {
	err := inWords(unmarshal(data, into), data, into)
	if err == nil && !startsWith(data, '{') {
		err = errNoObject
	}
	if err != nil {
		return Errorf(CodeDecode, "decode %s: %w", what, err)
	}
	return nil
}

var errNoObject = errors.New("not a JSON object")

// inWords puts an error of encoding/json, which is that of decoding data into what
// a pointer leads to, in the terms of the document.
func inWords(err error, data []byte, into any) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" && reflect.TypeOf(into).Elem().Kind() == reflect.Struct {
			return errNoObject
		}
		key, each := keyOf(wrong, reflect.TypeOf(into).Elem())
		return fmt.Errorf("%s%s has to be %s, not %s", each, key, wanted(wrong.Type), given(wrong.Value))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:min(int(syntax.Offset), len(data))]
		line := bytes.Count(before, []byte{'\n'}) + 1
		return fmt.Errorf("%w (line %d, column %d)", err, line, len(before)-bytes.LastIndexByte(before, '\n')-1)
	}
	return err
}

// keyOf returns the path of the key that an error is about, and "each of " if it is
// about an element of the list or object that is there.
func keyOf(wrong *json.UnmarshalTypeError, t reflect.Type) (key, each string) {
	if wrong.Field == "" {
		return "it", ""
	}
	var keys []string
	for part := range strings.SplitSeq(wrong.Field, ".") {
		for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map) {
			t = t.Elem()
		}
		f, embedded := fieldOf(t, part)
		if t = f; !embedded { // whose Go name is no key
			keys = append(keys, part)
		}
	}
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && t.Elem() == wrong.Type {
		each = "each of "
	}
	return strings.Join(keys, "."), each
}

// fieldOf returns the type of the field of a struct for a part of the path of an
// error, nil if there is none, and whether that is an embedded struct.
func fieldOf(t reflect.Type, part string) (field reflect.Type, embedded bool) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil, false
	}
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == part:
			return f.Type, false
		case tag == "" && f.Anonymous && f.Name == part:
			return f.Type, true
		case tag == "" && f.Anonymous && f.Type.Kind() == reflect.Struct:
			if field, embedded := fieldOf(f.Type, part); field != nil {
				return field, embedded
			}
		}
	}
	return nil, false
}

// wanted says what JSON a type is decoded from.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Uint, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	}
	return t.String()
}

// given says what was found, which an error of encoding/json calls "string" or
// "number 1.5".
func given(value string) string {
	kind, number, _ := strings.Cut(value, " ")
	switch {
	case number != "":
		return number
	case kind == "bool":
		return "true or false"
	case kind == "array":
		return "a list"
	case kind == "object":
		return "an object"
	}
	return "a " + kind
}

// startsWith reports whether the first character of a JSON text is c.
func startsWith(data []byte, c byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && data[0] == c
}

// isNull reports whether raw is absent or null, which mean the same in most
// places.
func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"unicode/utf8"
)

// A structure is a struct of JSON that every plugin decodes. It says itself which
// members it has, as its tags do.
//
// Package encoding/json would find out from these, but before it decodes into a
// struct for the first time it looks at all that this may hold, and at how it
// would be encoded. For a request and its result that takes a process a tenth of
// an ADD, and decoding itself next to nothing.
type structure interface{ fields() []field }

// A field is a member of a structure.
type field struct {
	key   string // which is taken in any case, as encoding/json does
	value any    // a structure, a list, or a pointer to anything else
	need  bool   // to be encoded even if it is zero
}

// A list is a field of many structures.
type list interface {
	decode(array []byte) error
	encode() []byte
	empty() bool
}

type listOf[T any, P interface {
	*T
	structure
}] struct{ items *[]T }

// structures returns the list that is kept in a slice.
func structures[T any, P interface {
	*T
	structure
}](items *[]T) list {
	return listOf[T, P]{items}
}

func (l listOf[T, P]) decode(array []byte) error {
	switch {
	case isNull(array):
		return nil
	case array[0] != '[':
		return errNotFit
	}
	*l.items = []T{}
	for item := range elements(array) {
		var t T
		if err := decodeValue(item, P(&t)); err != nil {
			return err
		}
		*l.items = append(*l.items, t)
	}
	return nil
}

func (l listOf[T, P]) encode() []byte {
	var items [][]byte
	for i := range *l.items {
		items = append(items, encodeValue(P(&(*l.items)[i])))
	}
	return append(append([]byte{'['}, bytes.Join(items, []byte{','})...), ']')
}

func (l listOf[T, P]) empty() bool { return len(*l.items) == 0 }

// unmarshal is json.Unmarshal, and quicker for a structure. What is wrong with a
// document that does not fit it is for encoding/json to say.
func unmarshal(data []byte, into any) error {
	s, ok := into.(structure)
	if ok && json.Valid(data) && decodeValue(bytes.Trim(data, blanks), s) == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

var errNotFit = errors.New("the value does not fit")

// decodeValue decodes a value whose syntax is known to be right.
func decodeValue(value []byte, into any) error {
	switch into := into.(type) {
	case structure:
		return decodeFields(value, into.fields())
	case list:
		return into.decode(value)
	case *string:
		if s, ok := plainString(value); ok {
			*into = s
			return nil
		}
	case *Version:
		return decodeValue(value, (*string)(into))
	}
	return json.Unmarshal(value, into)
}

// decodeFields decodes the members of an object that are fields. As with
// encoding/json, null leaves everything as it is.
func decodeFields(value []byte, fields []field) error {
	switch {
	case isNull(value):
		return nil
	case value[0] != '{':
		return errNotFit
	}
	for key, member := range members(value) {
		for _, f := range fields {
			if !strings.EqualFold(f.key, key) {
				continue
			}
			if err := decodeValue(member, f.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// encodeValue encodes what can be the value of a field.
func encodeValue(value any) []byte {
	switch value := value.(type) {
	case structure:
		var o object
		for _, f := range value.fields() {
			if f.need || !isEmpty(f.value) {
				o = append(o, member{f.key, encodeValue(f.value)})
			}
		}
		return o.encode()
	case list:
		return value.encode()
	case *string:
		return quote(*value)
	case *Version:
		return quote(string(*value))
	}
	data, _ := json.Marshal(value) // numbers and lists of strings
	return data
}

// isEmpty reports whether a field has nothing that would have to be encoded.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case structure:
		for _, f := range value.fields() {
			if f.need || !isEmpty(f.value) {
				return false
			}
		}
		return true
	case list:
		return value.empty()
	}
	v := reflect.ValueOf(value).Elem()
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// plainString returns the string of a JSON string that is written as it is.
func plainString(value []byte) (s string, ok bool) {
	if value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 || !utf8.Valid(value) {
		return "", false
	}
	return string(value[1 : len(value)-1]), true
}

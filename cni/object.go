package cni

import (
	"bytes"
	"encoding/json"
	"iter"
	"slices"
	"strings"
)

// An object is a JSON object that keeps what it isn't asked to change: the order
// of its members, duplicates and the very bytes of each value, such as
// numbers that a float64 can't hold.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

// parseObject takes the JSON object in data apart, called what in errors.
func parseObject(data []byte, what string) (object, error) {
	if err := Decode(data, new(struct{}), what); err != nil {
		return nil, err
	}
	var o object
	for key, value := range members(data) {
		o = append(o, member{key, bytes.Clone(value)})
	}
	return o, nil
}

// drop removes every member that encoding/json would take for key.
func (o object) drop(key string) object {
	return slices.DeleteFunc(o, func(m member) bool { return strings.EqualFold(m.key, key) })
}

// set replaces key by a single member, the last.
func (o object) set(key string, value json.RawMessage) object {
	return append(o.drop(key), member{key, value})
}

// encode returns the object without white space between its members.
func (o object) encode() []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(quote(m.key))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// blanks are what may stand between the tokens of a JSON text.
const blanks = " \t\r\n"

// members returns the members of a JSON object whose syntax is known to be right.
// Values are parts of it.
func members(object []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		key := ""
		isKey := true
		for token := range elements(object) {
			if isKey {
				key = unquote(token)
			} else if !yield(key, token) {
				return
			}
			isKey = !isKey
		}
	}
}

// elements returns the elements of a JSON array whose syntax is known to be
// right, or the keys and values of an object, in turn.
func elements(array []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		rest := bytes.TrimLeft(array, blanks)[1:]
		for {
			rest = bytes.TrimLeft(rest, blanks+",:")
			if rest[0] == ']' || rest[0] == '}' {
				return
			}
			n := valueLen(rest)
			if !yield(json.RawMessage(rest[:n:n])) {
				return
			}
			rest = rest[n:]
		}
	}
}

// valueLen returns the length of the value that a text begins with, which has
// more after it.
func valueLen(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 || strings.IndexByte(blanks+",:]}", text[i+1]) < 0 {
				continue // within a number or a literal
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// unquote returns the string of a JSON string.
func unquote(quoted []byte) (s string) {
	if s, ok := plainString(quoted); ok {
		return s
	}
	_ = json.Unmarshal(quoted, &s) // its syntax is known to be right
	return s
}

package cni

import (
	"bytes"
	"encoding/json"
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
	// From here on the syntax is known to be right.
	var o object
	d := json.NewDecoder(bytes.NewReader(data))
	d.Token()
	for d.More() {
		key, _ := d.Token()
		m := member{key: key.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, Errorf(CodeDecode, "decode %s: %s: %w", what, m.key, err)
		}
		o = append(o, m)
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

// Package schema describes network configurations as a JSON Schema of draft-07,
// which is the one that editors understand: the keys of every plugin, from the
// types that they are decoded into, with what their documents say of them.
//
// What values a key may have is in a tag of its field, `schema:"..."`, in terms
// that are separated by spaces:
//
//	required        the key is needed
//	enum=A|B        the string is one of these
//	min=N max=N     the number's bounds; of a string, the most bytes
//	is=FORM         the string has one of the forms in package schema: path,
//	                interface, address, subnet, mac, hardware, word, protocol
//	names=FORM      the keys of the map have, likewise: setting
//	number          it may be a number as well
//	with=KEY        there has to be another key, too
//	each=KEY        of lists of objects in a list: none is empty, and every
//	                object has the key
//
// and in a field named _, about the whole object:
//
//	require=A,B     keys that are needed; one in another object has dots
//	exclude=A,B     not more than one of these is set
//
// An empty string and a zero are as good as none, where the key isn't required
// and the field is no pointer. Of a list the terms are about its elements.
package schema

import "encoding/json"

// A Schema is a JSON Schema, or a part of one. The zero Schema allows anything.
type Schema struct {
	Version     string `json:"$schema,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Ref         string `json:"$ref,omitempty"`

	Type       any      `json:"type,omitempty"` // a string, or several
	Const      any      `json:"const,omitempty"`
	Enum       []string `json:"enum,omitempty"`
	EnumAbout  []string `json:"enumDescriptions,omitempty"` // an extension that editors know
	Minimum    *float64 `json:"minimum,omitempty"`
	Maximum    *float64 `json:"maximum,omitempty"`
	MinLength  int      `json:"minLength,omitempty"`
	MaxLength  int      `json:"maxLength,omitempty"`
	Pattern    string   `json:"pattern,omitempty"`
	Items      *Schema  `json:"items,omitempty"`
	MinItems   int      `json:"minItems,omitempty"`
	Required   []string `json:"required,omitempty"`
	Properties keys     `json:"properties,omitempty"`

	Names *Schema `json:"propertyNames,omitempty"`

	// Others are the properties that Properties doesn't name: nil allows any.
	Others       any                 `json:"additionalProperties,omitempty"` // a *Schema, or false
	Dependencies map[string][]string `json:"dependencies,omitempty"`

	If    *Schema   `json:"if,omitempty"`
	Then  *Schema   `json:"then,omitempty"`
	Else  *Schema   `json:"else,omitempty"`
	AllOf []*Schema `json:"allOf,omitempty"`
	AnyOf []*Schema `json:"anyOf,omitempty"`
	Not   *Schema   `json:"not,omitempty"`

	// Message is what editors say in the place of their own words; an extension.
	Message string `json:"errorMessage,omitempty"`

	Definitions keys `json:"definitions,omitempty"`
}

type keys = map[string]*Schema

// Encode returns the schema as JSON that is to be read.
func (s *Schema) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", " ")
	return append(data, '\n'), err
}

func ref(definition string) *Schema { return &Schema{Ref: "#/definitions/" + definition} }

// of returns the schema of a JSON type.
func of(name string) *Schema { return &Schema{Type: name} }

func list(items *Schema) *Schema { return &Schema{Type: "array", Items: items} }

func (s *Schema) about(text string) *Schema {
	s.Description = text
	return s
}

// when applies a schema where a key has a value.
func when(key, value string, then *Schema) *Schema {
	return &Schema{If: &Schema{Properties: keys{key: {Const: value}}, Required: []string{key}}, Then: then}
}

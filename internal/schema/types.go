package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugin/iface"
)

// form returns the pattern of strings of a form; an empty string may stand for
// none. A pattern is about what one sees: whether an address is one the plugin
// says.
func form(name string) (pattern string, ok bool) {
	switch name {
	case "path":
		return `/.*`, true
	case "interface": // cni.ValidateIfName
		return `[^/:\s.][^/:\s]{0,14}|\.[^/:\s.][^/:\s]{0,13}|\.\.[^/:\s]{1,13}`, true
	case "address":
		return `[0-9A-Fa-f.:]+`, true
	case "subnet":
		return `[0-9A-Fa-f.:]+/[0-9]{1,3}`, true
	case "mac": // not of a group; in the three ways of net.ParseMAC
		return `[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f][02468ACEace][0-9A-Fa-f]{2}(\.[0-9A-Fa-f]{4}){2}`, true
	case "hardware": // of devices that have longer ones too
		return `[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5,19}|[0-9A-Fa-f][02468ACEace][0-9A-Fa-f]{2}(\.[0-9A-Fa-f]{4}){2,9}`, true
	case "word":
		return `[0-9A-Za-z_.][0-9A-Za-z_.-]*`, true
	case "protocol":
		return `[Tt][Cc][Pp]|[Uu][Dd][Pp]|[Ss][Cc][Tt][Pp]`, true
	case "setting":
		return `net[./].+`, true
	}
	return "", false
}

// patternOf returns the pattern of whole strings of a form, or empty ones.
func patternOf(name string, unset bool) string {
	pattern, ok := form(name)
	if !ok {
		panic("schema: there is no form " + name) // in a tag of ours
	}
	if unset {
		pattern = "|" + pattern
	}
	return "^(" + pattern + ")$"
}

// terms are those of a tag.
type terms struct {
	words  []string            // without a value
	values map[string][]string // by name
}

func parseTerms(tag reflect.StructTag) terms {
	t := terms{values: make(map[string][]string)}
	for term := range strings.FieldsSeq(tag.Get("schema")) {
		name, value, ok := strings.Cut(term, "=")
		if !ok {
			t.words = append(t.words, term)
		}
		t.values[name] = append(t.values[name], value)
	}
	return t
}

func (t terms) has(word string) bool { return slices.Contains(t.words, word) }

func (t terms) value(name string) string {
	if v := t.values[name]; v != nil {
		return v[0]
	}
	return ""
}

// bound returns a number among the terms, or otherwise.
func (t terms) bound(name string, otherwise *float64) *float64 {
	v := t.value(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseFloat(v, 64)
	if err != nil {
		panic(fmt.Sprintf("schema: %s=%s: %v", name, v, err)) // a tag of ours
	}
	return &n
}

// A describer returns what there is to say of a key, whose path has dots: "" for
// nothing.
type describer func(path string) string

// typeOf returns the schema of what a type is decoded from. unset tells that a
// zero stands for nothing.
func typeOf(t reflect.Type, tags terms, unset bool, path string, describe describer) *Schema {
	switch t {
	case reflect.TypeFor[iface.DefaultRoute]():
		return defaultRoute()
	case reflect.TypeFor[json.RawMessage]():
		return &Schema{}
	}
	t = plugin.ShapeOf(t)
	switch t.Kind() {
	case reflect.Pointer:
		return typeOf(t.Elem(), tags, false, path, describe)
	case reflect.Slice:
		s := list(typeOf(t.Elem(), tags, false, path, describe))
		if key := tags.value("each"); key != "" && t.Elem().Kind() == reflect.Slice {
			s.Items.MinItems = 1
			s.Items.Items.Required = append(s.Items.Items.Required, key)
		}
		return s
	case reflect.Map:
		s := &Schema{Type: "object", Others: typeOf(t.Elem(), tags, false, path, describe)}
		if name := tags.value("names"); name != "" {
			s.Names = &Schema{Pattern: patternOf(name, false)}
		}
		return s
	case reflect.Struct:
		s := &Schema{Type: "object", Properties: keys{}, Others: false}
		s.addFields(t, path, describe)
		return s
	case reflect.Bool:
		return of("boolean")
	case reflect.String:
		return stringOf(tags, unset)
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint8:
		return numberOf(t, tags, unset)
	}
	panic(fmt.Sprintf("schema: %s: no JSON is known of a %s", path, t)) // a type of ours
}

func stringOf(tags terms, unset bool) *Schema {
	s := of("string")
	if tags.has("number") {
		s.Type = []string{"string", "integer"}
	}
	if words := tags.value("enum"); words != "" {
		s.Enum = strings.Split(words, "|")
		if unset {
			s.Enum = append(s.Enum, "")
		}
	}
	if name := tags.value("is"); name != "" {
		s.Pattern = patternOf(name, unset)
	}
	if m := tags.bound("max", nil); m != nil {
		s.MaxLength = int(*m)
	}
	if tags.has("required") {
		s.MinLength = 1
	}
	return s
}

func numberOf(t reflect.Type, tags terms, unset bool) *Schema {
	s := of("integer")
	var least, most *float64
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		least = new(float64)
		if bits := t.Bits(); bits < 64 {
			most = new(float64(uint64(1)<<bits - 1))
		}
	}
	s.Minimum, s.Maximum = tags.bound("min", least), tags.bound("max", most)
	if unset && s.Minimum != nil && *s.Minimum > 0 {
		some := &Schema{Minimum: s.Minimum, Maximum: s.Maximum}
		s.Minimum, s.Maximum = nil, nil
		s.AnyOf = []*Schema{some, {Const: 0}}
	}
	return s
}

// defaultRoute is the schema of an iface.DefaultRoute.
func defaultRoute() *Schema {
	words, metrics := iface.DefaultRoutes()
	one, most := 1.0, float64(metrics)
	return &Schema{AnyOf: []*Schema{{Type: "string", Enum: words}, {Type: "integer", Minimum: &one, Maximum: &most}}}
}

// addFields adds the keys of a struct to an object.
func (s *Schema) addFields(t reflect.Type, path string, describe describer) {
	for f := range t.Fields() {
		tags := parseTerms(f.Tag)
		if f.Name == "_" {
			s.addRules(tags)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && f.Anonymous {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			s.addFields(inner, path, describe)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		inner := name
		if path != "" {
			inner = path + "." + name
		}
		// Two embedded structs may each have a part of an object.
		if key := typeOf(f.Type, tags, !tags.has("required"), inner, describe); s.Properties[name] == nil {
			s.Properties[name] = key.about(describe(inner))
		} else {
			s.Properties[name].merge(key)
		}
		if tags.has("required") {
			s.Required = append(s.Required, name)
		}
		if other := tags.value("with"); other != "" {
			if s.Dependencies == nil {
				s.Dependencies = make(map[string][]string)
			}
			s.Dependencies[name] = append(s.Dependencies[name], other)
		}
	}
}

// addRules adds those about a whole object.
func (s *Schema) addRules(tags terms) {
	for _, paths := range tags.values["require"] {
		for path := range strings.SplitSeq(paths, ",") {
			s.AllOf = append(s.AllOf, within(path, func(s *Schema, key string) {
				s.Properties = keys{key: {MinLength: 1}}
			}))
		}
	}
	for _, paths := range tags.values["exclude"] {
		var all []*Schema
		for path := range strings.SplitSeq(paths, ",") {
			all = append(all, within(path, func(s *Schema, key string) {
				// false, "" and an empty list say nothing.
				s.Properties = keys{key: {Not: &Schema{AnyOf: []*Schema{
					{Type: "boolean", Not: &Schema{Const: true}}, {Type: "string", Not: &Schema{MinLength: 1}}, {Type: "array", Not: &Schema{MinItems: 1}},
				}}}}
			}))
		}
		s.AllOf = append(s.AllOf, &Schema{
			Not:     &Schema{AllOf: all},
			Message: strings.ReplaceAll(paths, ",", " and ") + " exclude each other",
		})
	}
}

// within returns the schema of objects that have a key and, by what set makes of
// it, a certain value of that. The key may be in another object.
func within(path string, set func(s *Schema, key string)) *Schema {
	s := new(Schema)
	key, rest, deeper := strings.Cut(path, ".")
	s.Required = []string{key}
	if deeper {
		s.Properties = keys{key: within(rest, set)}
	} else {
		set(s, key)
	}
	return s
}

// merge adds the keys that another object has.
func (s *Schema) merge(other *Schema) {
	if s.Properties == nil || other.Properties == nil {
		return
	}
	for name, key := range other.Properties {
		if mine := s.Properties[name]; mine != nil {
			mine.merge(key)
		} else {
			s.Properties[name] = key
		}
	}
}

// open allows other keys, and the same ones in another case, in whatever is in a
// schema: it is about what programs write.
func (s *Schema) open() {
	s.Required = nil
	if s.Others == false {
		s.Others = nil
	}
	for _, key := range s.Properties {
		key.open()
	}
	if s.Items != nil {
		s.Items.open()
	}
}

// clone copies an object as deep as merge changes it.
func (s *Schema) clone() *Schema {
	c := *s
	if c.Properties != nil {
		c.Properties = maps.Clone(c.Properties)
		for name, key := range c.Properties {
			c.Properties[name] = key.clone()
		}
	}
	return &c
}

package plugin

import (
	"reflect"
	"slices"
	"strings"
)

// KeysOf lists the JSON keys of a configuration type, those of nested objects as
// "outer.inner", sorted. A field whose value is decoded elsewhere lists the
// keys in it in a tag: `keys:"dst gw"`.
func KeysOf[C any]() []string {
	keys := structKeys("", reflect.TypeFor[C]())
	slices.Sort(keys)
	return keys
}

func structKeys(prefix string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" && f.Anonymous {
			keys = append(keys, structKeys(prefix, f.Type)...)
		}
		if tag == "" || tag == "-" {
			continue
		}
		inner := structKeys(prefix+tag+".", f.Type)
		for elsewhere := range strings.FieldsSeq(f.Tag.Get("keys")) {
			inner = append(inner, prefix+tag+"."+elsewhere)
		}
		if inner == nil {
			inner = []string{prefix + tag}
		}
		keys = append(keys, inner...)
	}
	return keys
}

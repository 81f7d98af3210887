package plugin

import (
	"reflect"
	"slices"
	"strings"
)

// A Shaped type is one whose JSON doesn't follow from its Go type, because it
// is decoded by a method or elsewhere. Shape returns a value of a type from
// which it follows.
type Shaped interface{ Shape() any }

// ShapeOf returns the type from which the JSON of another follows, mostly that
// type itself.
func ShapeOf(t reflect.Type) reflect.Type {
	if shaped, ok := reflect.Zero(t).Interface().(Shaped); ok {
		return reflect.TypeOf(shaped.Shape())
	}
	return t
}

// KeysOf lists the JSON keys of a configuration type, those of nested objects as
// "outer.inner", sorted.
func KeysOf(t reflect.Type) []string {
	keys := structKeys("", t)
	slices.Sort(keys)
	return keys
}

func structKeys(prefix string, t reflect.Type) []string {
	t = ShapeOf(t)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = ShapeOf(t.Elem())
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
		if inner == nil {
			inner = []string{prefix + tag}
		}
		keys = append(keys, inner...)
	}
	return keys
}

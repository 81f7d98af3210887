package plugin

import (
	"reflect"
	"slices"
	"strings"
)

// configKeys lists the JSON keys of a configuration type, those of nested
// objects as "outer.inner".
func configKeys[C any]() []string {
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
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
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

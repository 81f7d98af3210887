// Package keys holds that every configuration key of every plugin is tested: a
// test declares which keys it exercises, and docs/keys.md, which is made of
// these declarations, is compared with what the plugins say they read and with
// what the reference documents.
//
//	go test ./test/keys -update    writes docs/keys.md
package keys

import "testing"

// Covers declares that a test exercises keys of a plugin: that the test would
// fail if the plugin ignored them. Nested keys are written with dots, those of
// CNI_ARGS as "CNI_ARGS.IP".
//
// It does nothing: the declarations are read from the sources, so all but t have
// to be literals, and it has to be called by the test itself.
func Covers(t testing.TB, plugin string, keys ...string) {}

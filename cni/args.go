package cni

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Args are the decoded CNI_ARGS: pairs of key and value, in any order. Keys are
// told apart by case. The zero Args are empty.
type Args struct {
	pairs         [][2]string
	ignoreUnknown bool
}

// ParseArgs decodes CNI_ARGS, "KEY=value;KEY2=value2". The grammar knows no
// escapes: neither key nor value can hold = or ;. The key IgnoreUnknown takes
// 1, true, 0 or false in any case. Errors are of CodeInvalidEnvironment.
func ParseArgs(s string) (Args, error) {
	var a Args
	if s == "" {
		return a, nil
	}
	for pair := range strings.SplitSeq(s, ";") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || strings.Contains(value, "=") {
			return Args{}, Errorf(CodeInvalidEnvironment, "CNI_ARGS: %q is not a pair KEY=value", pair)
		}
		a.pairs = append(a.pairs, [2]string{key, value})
		if key != ignoreUnknown {
			continue
		}
		switch strings.ToLower(value) {
		case "1", "true":
			a.ignoreUnknown = true
		case "0", "false":
			a.ignoreUnknown = false
		default:
			return Args{}, Errorf(CodeInvalidEnvironment, "CNI_ARGS: %q is neither true nor false", pair)
		}
	}
	return a, nil
}

// ignoreUnknown is the key by which a caller says that its arguments are not
// for every plugin.
const ignoreUnknown = "IgnoreUnknown"

// Get returns the value of key and whether it is present. Of several, the last
// one counts.
func (a Args) Get(key string) (string, bool) {
	for _, pair := range slices.Backward(a.pairs) {
		if pair[0] == key {
			return pair[1], true
		}
	}
	return "", false
}

// All returns an iterator over the pairs of key and value, in their order.
func (a Args) All() iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for _, pair := range a.pairs {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

// conventional are keys that have a meaning for some plugin of a list, all of
// which get the same arguments (CONVENTIONS, "CNI_ARGS").
func conventional(key string) bool {
	return key == ignoreUnknown || key == "IP" || key == "GATEWAY" || key == "MAC"
}

// Check returns a CodeInvalidEnvironment error that names the pairs whose keys
// are neither known nor conventional, unless IgnoreUnknown is set.
func (a Args) Check(known ...string) error {
	if a.ignoreUnknown {
		return nil
	}
	var unknown []string
	for _, pair := range a.pairs {
		if !conventional(pair[0]) && !slices.Contains(known, pair[0]) {
			unknown = append(unknown, fmt.Sprintf("%q", pair[0]+"="+pair[1]))
		}
	}
	if unknown == nil {
		return nil
	}
	return Errorf(CodeInvalidEnvironment, "CNI_ARGS: unknown arguments %s", strings.Join(unknown, ", ")).
		WithDetails("IgnoreUnknown=1 among them lets a plugin skip what it does not know")
}

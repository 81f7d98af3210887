package plugin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// An UnknownKey is a key of a configuration that nobody reads who is known. It is
// no error, since the specification lets anybody add keys, but often a mistake.
type UnknownKey struct {
	Key     string // its path, "ipam.subnett"
	Nearest string // the known key that it may be meant for; empty if none is like it
}

func (u UnknownKey) String() string {
	if u.Nearest == "" {
		return fmt.Sprintf("nothing reads key %q", u.Key)
	}
	return fmt.Sprintf("nothing reads key %q; is %q meant?", u.Key, u.Nearest)
}

// commonKeys are those that every plugin's configuration may have beside the open
// ones: of the specification, and by which editors know the schema.
func commonKeys() []string {
	return []string{
		"$schema", "cniVersion", "name", "type", "ipam.type",
		"dns.nameservers", "dns.domain", "dns.search", "dns.options",
	}
}

// Unknown returns the keys of a configuration that neither the specification knows
// nor the plugin, nor the IPAM plugin that it names: ipam returns that if it is
// known. It reads types by reflection, which is not for every call.
//
// Of an IPAM plugin's own calls it returns none: it is given the configuration of
// another plugin.
func (p Plugin) Unknown(config []byte, ipam func(name string) IPAM) []UnknownKey {
	if p.ipam {
		return nil
	}
	var section struct {
		IPAM struct {
			Type string `json:"type"`
		} `json:"ipam"`
	}
	_ = json.Unmarshal(config, &section) // what can't be decoded is refused elsewhere
	known := append(commonKeys(), p.Keys()...)
	if own := ipam(section.IPAM.Type); own != nil {
		known = append(known, KeysOf(own.Config())...)
	} else if section.IPAM.Type != "" {
		known = append(known, "ipam")
	}
	return UnknownKeys(config, known)
}

// UnknownKeys returns the keys of an object that are not among those known, with
// nested ones. Keys are known in any case, as encoding/json takes them.
func UnknownKeys(object []byte, known []string) []UnknownKey {
	var unknown []UnknownKey
	look("", object, known, &unknown)
	return unknown
}

// open are the keys of the specification below which runtimes and plugins of others
// write what they like.
func open(key string) bool {
	return strings.HasPrefix(key, "cni.dev/") || slices.Contains([]string{"args", "runtimeConfig", "capabilities", "prevResult"}, key)
}

// look looks through an object, or a list of them, that is below a prefix.
func look(prefix string, value json.RawMessage, known []string, unknown *[]UnknownKey) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) == nil {
		for _, element := range list {
			look(prefix, element, known, unknown)
		}
		return
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) != nil {
		return
	}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		whole, nested, siblings := false, false, []string(nil)
		for _, k := range known {
			if len(k) < len(prefix) || !strings.EqualFold(k[:len(prefix)], prefix) {
				continue
			}
			sibling, _, deeper := strings.Cut(k[len(prefix):], ".")
			siblings = append(siblings, sibling)
			if strings.EqualFold(sibling, name) {
				whole, nested = whole || !deeper, nested || deeper
			}
		}
		switch {
		case whole || prefix == "" && open(name):
		case nested:
			look(prefix+name+".", object[name], known, unknown)
		default:
			u := UnknownKey{Key: prefix + name}
			if like := nearest(name, siblings); like != "" {
				u.Nearest = prefix + like
			}
			if !slices.Contains(*unknown, u) { // in another element of a list
				*unknown = append(*unknown, u)
			}
		}
	}
}

// nearest returns the name that is most like another, empty if none is so like it
// that one may be mistyped for the other.
func nearest(name string, names []string) string {
	best, least := "", max(1, len(name)/3)+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is how many letters have to be put in, taken out, exchanged for others
// or swapped with the next to make one word of another (the optimal string
// alignment distance).
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

package host

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Ruleset is what `nft list ruleset` shows of a namespace.
type Ruleset struct {
	Tables []NFTTable
	Chains []NFTChain
	Sets   []NFTSet // maps too
	Rules  []NFTRule
}

// NFTTable is an nftables table.
type NFTTable struct {
	Family string `json:"family"`
	Name   string `json:"name"`
}

// NFTChain is a chain; Type, Hook and Policy are empty and Prio is 0 for one that isn't a base chain.
type NFTChain struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Hook   string `json:"hook"`
	Prio   int    `json:"prio"`
	Policy string `json:"policy"`
}

// NFTSet is a set or a map.
type NFTSet struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Name   string `json:"name"`
	Map    bool   `json:"-"`
	Elems  []NFTElem
}

// NFTElem is an element of a set (Value is empty) or a map, written as nft would: "10.0.0.0/8", "tcp . 80", "jump x".
type NFTElem struct{ Key, Value, Comment string }

// NFTRule is a rule. Expr is its JSON without counters and handles, so that equal rules are equal texts.
type NFTRule struct {
	Family  string `json:"family"`
	Table   string `json:"table"`
	Chain   string `json:"chain"`
	Comment string `json:"comment"`
	Expr    string `json:"-"`
}

// Set returns the set or map of that name in the table of that family and name.
func (r Ruleset) Set(family, table, name string) (NFTSet, bool) {
	for _, s := range r.Sets {
		if s.Family == family && s.Table == table && s.Name == name {
			return s, true
		}
	}
	return NFTSet{}, false
}

// NFT returns the nftables rules of the host.
func NFT(t testing.TB) Ruleset { t.Helper(); return NFTIn(t, "") }

// NFTIn returns the nftables rules of a network namespace.
func NFTIn(t testing.TB, ns string) Ruleset {
	t.Helper()
	var listing struct {
		Objects []map[string]json.RawMessage `json:"nftables"`
	}
	JSONIn(t, ns, &listing, "nft", "-j", "list", "ruleset")
	var r Ruleset
	for _, object := range listing.Objects {
		for kind, raw := range object {
			if err := r.add(kind, raw); err != nil {
				t.Fatalf("decode nft's listing: %s: %v\n%s", kind, err, raw)
			}
		}
	}
	return r
}

func (r *Ruleset) add(kind string, raw json.RawMessage) error {
	switch kind {
	case "table":
		return appendTo(&r.Tables, raw)
	case "chain":
		return appendTo(&r.Chains, raw)
	case "rule":
		if err := appendTo(&r.Rules, raw); err != nil {
			return err
		}
		var rule struct {
			Expr any `json:"expr"`
		}
		err := json.Unmarshal(raw, &rule)
		r.Rules[len(r.Rules)-1].Expr = canonical(rule.Expr)
		return err
	case "set", "map":
		set := struct {
			NFTSet
			Elem []any `json:"elem"`
		}{NFTSet: NFTSet{Map: kind == "map"}}
		if err := json.Unmarshal(raw, &set); err != nil {
			return err
		}
		for _, e := range set.Elem {
			set.Elems = append(set.Elems, element(e, set.Map))
		}
		r.Sets = append(r.Sets, set.NFTSet)
	}
	return nil // metainfo, named counters, helpers
}

func appendTo[T any](list *[]T, raw json.RawMessage) error {
	var v T
	err := json.Unmarshal(raw, &v)
	*list = append(*list, v)
	return err
}

func element(e any, isMap bool) NFTElem {
	var out NFTElem
	if pair, ok := e.([]any); ok && isMap && len(pair) == 2 {
		e, out.Value = pair[0], expression(pair[1])
	}
	if m, ok := e.(map[string]any); ok {
		if inner, ok := m["elem"].(map[string]any); ok {
			out.Comment, _ = inner["comment"].(string)
			e = inner["val"]
		}
	}
	out.Key = expression(e)
	return out
}

// expression writes the JSON of a value or verdict as one would in a rule file, and what it doesn't know as JSON.
func expression(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return fmt.Sprint(v)
	case map[string]any:
		if len(v) != 1 {
			break
		}
		for kind, arg := range v {
			list, _ := arg.([]any)
			fields, _ := arg.(map[string]any)
			switch {
			case kind == "concat":
				parts := make([]string, len(list))
				for i := range list {
					parts[i] = expression(list[i])
				}
				return strings.Join(parts, " . ")
			case kind == "range" && len(list) == 2:
				return expression(list[0]) + "-" + expression(list[1])
			case kind == "prefix":
				return fmt.Sprintf("%v/%v", fields["addr"], fields["len"])
			case kind == "jump" || kind == "goto":
				return fmt.Sprintf("%s %v", kind, fields["target"])
			case arg == nil:
				return kind
			}
		}
	}
	return canonical(v)
}

// canonical is JSON with sorted keys and without what changes by itself.
func canonical(v any) string {
	forget(v)
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

func forget(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			forget(e)
		}
	case map[string]any:
		for key, e := range v {
			switch key {
			case "packets", "bytes", "handle", "expires":
				delete(v, key)
			default:
				forget(e)
			}
		}
	}
}

package portmap

import (
	"context"

	"github.com/plumb-cni/plumb/internal/nftconn"
)

// bulk is the number of look-ups from which on listing a map may be cheaper:
// each look-up is answered by a message of its own.
const bulk = 500

// lookUp answers queries: by one look each or, where a map holds less than is
// asked of it, by listing it. So what others hold never costs more than what is
// asked for.
func lookUp(ctx context.Context, r nftconn.Reader, asked []*nftconn.ElementQuery) error {
	byMap := make(map[string][]*nftconn.ElementQuery)
	for _, q := range asked {
		byMap[q.Map.Name] = append(byMap[q.Map.Name], q)
	}
	var single []nftconn.Query
	for _, some := range byMap {
		listed := false
		if len(some) > bulk {
			var err error
			if listed, err = list(ctx, r, some); err != nil {
				return err
			}
		}
		for _, q := range some {
			if !listed {
				single = append(single, q)
			}
		}
	}
	if single == nil {
		return nil
	}
	_, err := r.Read(ctx, single...)
	return err
}

// list answers queries about one map by listing it, unless it holds more.
func list(ctx context.Context, r nftconn.Reader, asked []*nftconn.ElementQuery) (listed bool, err error) {
	all := nftconn.ElementsQuery{Map: asked[0].Map, AtMost: len(asked)}
	if _, err := r.Read(ctx, &all); err != nil || all.More {
		return false, err
	}
	byKey := make(map[string]*nftconn.Element, len(all.Elements))
	for i, x := range all.Elements {
		byKey[string(x.Key)] = &all.Elements[i]
	}
	for _, q := range asked {
		q.Element = byKey[string(q.Key)]
	}
	return true, nil
}

// elements looks through maps.
func elements(ctx context.Context, r nftconn.Reader, maps []nftconn.Map, wanted func(entry) bool) (found []entry, err error) {
	for _, m := range maps {
		list := nftconn.ElementsQuery{Map: m}
		if _, err := r.Read(ctx, &list); err != nil {
			return nil, err
		}
		for _, x := range list.Elements {
			if e := (entry{m, x}); wanted(e) {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// TestDelOfUntagged takes the tag of one element of nftables away at a time, or the element itself: DEL finds the rest, and what has lost
// its tag, by the keys that are on record.
func TestDelOfUntagged(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		before := host.Snapshot(t)
		a := m.container(t, "untagged", 1)
		for _, strip := range []bool{true, false} {
			for i := 0; ; i++ {
				a.add(t)
				elements := a.elements(t)
				if len(elements) <= i {
					a.del(t)
					break
				}
				e := elements[i]
				command := fmt.Sprintf("delete element %s { %s }", e.set, e.key)
				if strip {
					command += fmt.Sprintf("; add element %s { %s }", e.set, strings.TrimSuffix(e.key+" : "+e.value, " : "))
				}
				host.Run(t, "nft", command)
				a.del(t)
				if left := a.elements(t); left != nil {
					t.Errorf("after %s DEL leaves %v", command, left)
				}
				host.Unchanged(t, before, m.stays()...)
			}
		}
	})
}

type element struct{ set, key, value string }

// elements are those of nftables that carry the attachment's tag.
func (a *attachment) elements(t *testing.T) (list []element) {
	t.Helper()
	for _, set := range host.NFT(t).Sets {
		for _, e := range set.Elems {
			if o, ok := state.ParseTag(e.Comment); ok && o.ContainerID == a.id {
				list = append(list, element{strings.Join([]string{set.Family, set.Table, set.Name}, " "), e.Key, e.Value})
			}
		}
	}
	return list
}

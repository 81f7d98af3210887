package ipam

import (
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
)

// TestRouted compares the keys of a route with those that a result writes of
// it, which DecodeRoutes reads.
func TestRouted(t *testing.T) {
	full := &cni.Result{Routes: []cni.Route{{
		Dst: netip.MustParsePrefix("10.0.0.0/8"), GW: netip.MustParseAddr("10.0.0.1"), MTU: 1, AdvMSS: 1, Priority: 1, Table: new(1), Scope: new(1),
	}}}
	data, err := full.Encode(cni.V110)
	if err != nil {
		t.Fatal(err)
	}
	var written struct{ Routes []map[string]any }
	if err := json.Unmarshal(data, &written); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range slices.Sorted(maps.Keys(written.Routes[0])) {
		want = append(want, "routes."+name)
	}
	if got := plugin.KeysOf(reflect.TypeFor[Routed]()); !slices.Equal(got, want) {
		t.Errorf("the keys are %v, want %v", got, want)
	}
}

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

// TestFootprint looks for every object that an attachment owns among those that DEL sets out to remove: without the record where it
// was not written yet when the object was made, and with it for all.
func TestFootprint(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		a := m.container(t, "planned", 1)
		h := newHost()
		type object struct {
			state.Step
			recorded bool
		}
		var objects []object
		h.Before = func(s state.Step) {
			objects = append(objects, object{s, slices.ContainsFunc(records(t), a.wrote)})
		}
		if _, err := serve(t, h, a.plugin(), a.call(t, cni.VerbAdd, a.ready(t))); err != nil {
			t.Fatal(err)
		}
		var owned []state.Key
		for _, o := range objects {
			if !o.Shared && o.Within == (state.Key{}) {
				owned = append(owned, o.Key())
			}
		}
		if len(owned) == 0 {
			t.Fatal("the plan owns nothing")
		}
		h.Before = nil

		removed := func() []string {
			var names []string
			h.Log = func(e plugin.Entry) {
				for _, step := range e.Steps {
					if step.Op == "remove" {
						names = append(names, step.Object)
					}
				}
			}
			if _, err := serve(t, h, a.plugin(), a.call(t, cni.VerbDel, a.config)); err != nil {
				t.Error(err)
			}
			return names
		}
		withRecord := removed()
		withoutRecord := removed() // nor is there anything left for a search to find: what DEL tries now it knows from the footprint

		for _, o := range objects {
			switch {
			case o.Shared:
			case o.Within != (state.Key{}):
				// The link of a chained plugin is that of the plugin before it.
				if m.before == nil && !covers([]string{o.Within.String()}, owned...) {
					t.Errorf("%s goes with %s, which nobody removes", o.Key(), o.Within)
				}
			case !covers(withRecord, o.Key()):
				t.Errorf("with the record DEL does not remove %s, but %q", o.Key(), withRecord)
			case !o.recorded && !covers(withoutRecord, o.Key()):
				t.Errorf("%s was made before the record, and DEL without it removes only %q", o.Key(), withoutRecord)
			}
		}
	})
}

// covers tells whether names have one of the keys: itself, or one for all objects of a kind that the owner has, which
// is the same up to what the owner has of it.
func covers(names []string, keys ...state.Key) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(keys, func(key state.Key) bool {
			return name == key.String() || strings.HasPrefix(key.String(), name+" ")
		})
	})
}

// TestUndo lets the plan fail at its end, by a route through a gateway that is nowhere: the configuration is said to be at fault, and all
// of the plan is taken back.
func TestUndo(t *testing.T) {
	for _, masq := range masquerades {
		for _, route := range [][2]string{{"10.99.0.0/16", "10.98.0.1"}, {"fd00:99::/32", "fd00:98::1"}} {
			ipam := static(2, fmt.Sprintf(`{"dst":%q,"gw":%q}`, route[0], route[1]))
			for _, tt := range []struct{ name, config string }{
				{"ptp", config("ptp", "net", masq.keys+ipam)},
				{"bridge", bridgeConfig("net", `"isDefaultGateway":true,`+masq.keys+ipam)},
			} {
				t.Run(tt.name+" "+masq.name+" "+route[0], func(t *testing.T) {
					if masq.need != "" {
						host.Need(t, masq.need)
					}
					removeAtEnd(t, bridgeName)
					before := host.Snapshot(t)
					a := attach(t, tt.config, "failed")
					_, failure := a.tryAdd(t)
					if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, route[0]+" via "+route[1]) || !hinted(failure) {
						t.Fatalf("ADD: %v", failure)
					}
					a.gone(t)
					host.Unchanged(t, before, stays(bridgeName)...)
				})
			}
		}
	}
}

// hinted tells whether an error says more than what happened to whom: what to do.
func hinted(failure *cni.Error) bool {
	return !strings.HasPrefix(failure.Details, "plugin ") || strings.Contains(failure.Msg, "; ")
}

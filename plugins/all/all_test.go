package all

import "testing"

// TestNames: each plugin is found by the name that it has.
func TestNames(t *testing.T) {
	for _, p := range Plugins() {
		if found, ok := Find(p.Name()); !ok || found.Name() != p.Name() {
			t.Errorf("of the name %s there is %q, %t", p.Name(), found.Name(), ok)
		}
	}
	for _, p := range IPAM() {
		if found, ok := FindIPAM(p.Name()); !ok || found.Name() != p.Name() {
			t.Errorf("of the name %s there is %v, %t", p.Name(), found, ok)
		}
	}
	if p, ok := Find("macvlane"); ok {
		t.Errorf("there is a plugin %s", p.Name())
	}
}

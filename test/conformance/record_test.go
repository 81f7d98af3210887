package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// TestCheckFindsLostRecord takes the record of an attachment away, or half of it, in every mode: CHECK names it, and passes when it is
// back.
func TestCheckFindsLostRecord(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		a := m.container(t, "unrecorded", 1)
		a.add(t)
		if a.plugin() == "host-device" {
			// The device is as the reference leaves it, so that another plugin of the list has to tell who has run that.
			a.then(t, config("tuning", "net-host-device", `"txQLen":77`))
		}
		a.check(t)
		file := a.record(t)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for what, lose := range map[string]func() error{
			"gone": func() error { return os.Remove(file) },
			"half": func() error { return os.WriteFile(file, whole[:len(whole)/2], 0o600) },
		} {
			if err := lose(); err != nil {
				t.Fatal(err)
			}
			failure := a.tryCheck(t)
			if failure == nil || failure.Code != state.CodeDrift || failure.Msg != "host record "+file+" is missing" {
				t.Errorf("CHECK with the record %s: %v", what, failure)
			}
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			a.check(t)
		}
		a.del(t)
		a.gone(t)
	})
}

// record is the file that the plugin under test has written about the attachment.
func (a *attachment) record(t *testing.T) string {
	t.Helper()
	names := slices.DeleteFunc(records(t), func(name string) bool { return !a.wrote(name) || !strings.HasPrefix(name, a.plugin()+"@") })
	if len(names) != 1 {
		t.Fatalf("records of %s by %s: %q", a.id, a.plugin(), names)
	}
	return filepath.Join(state.RecordDir, names[0])
}

// then adds the attachment to a plugin that comes after, until the end of the test.
func (a *attachment) then(t *testing.T, config string) {
	t.Helper()
	if _, failure := invoke(t, cni.VerbAdd, typeOf(config), a.after(t, config, a.prev), a); failure != nil {
		t.Fatalf("ADD %s by %s: %v", a.id, typeOf(config), failure)
	}
	t.Cleanup(func() { invoke(t, cni.VerbDel, typeOf(config), config, a) })
}

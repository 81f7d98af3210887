//go:build race

package rtnl_test

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/rtnl"
)

// TestFirstAtOnce: the first requests of a process may be made at once. That takes
// a process that has made none.
func TestFirstAtOnce(t *testing.T) {
	const inside = "RTNL_TEST_FIRST"
	if os.Getenv(inside) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestFirstAtOnce$")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var group sync.WaitGroup
	start := make(chan bool)
	for range 8 {
		group.Go(func() {
			<-start
			ns, err := netns.Current()
			if err != nil {
				t.Error(err)
				return
			}
			c, err := rtnl.Dial(ns)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Link("lo"); err != nil {
				t.Error(err)
			}
			if err := errors.Join(c.Close(), ns.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	group.Wait()
}

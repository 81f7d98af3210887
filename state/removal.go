package state

import (
	"errors"
	"sync"

	"github.com/plumb-cni/plumb/internal/rtnl"
)

// The kernel answers a removal of links only after a grace period of RCU, some
// 20 ms, however many links the message is about. So removals that are wanted
// at the same time are put into one message, and those of the plugins of a list
// as well.

// A removal is a link that somebody wants to be deleted.
type removal struct {
	index int
	done  chan error // takes one without blocking
}

func (r removal) fail(err error) { r.done <- err }

func remove(index int) removal { return removal{index, make(chan error, 1)} }

// RemoveLink deletes a link, and a veth's other end with it, or finds it gone.
// It returns when the kernel has let go of it.
//
// One that may go later waits for another removal of the same list's, if the
// kernel is one of a [Member]'s.
func (k *Kernel) RemoveLink(ns NS, index int, later bool) error {
	conn, err := k.Route(ns)
	if err != nil {
		return err
	}
	if ns == Host && k.machine != nil {
		conn.Forget()
		own := remove(index)
		if !later || !k.member.park(own) {
			k.machine.remove(append(k.member.others(), own))
		}
		err = <-own.done
	} else {
		err = conn.DelLink(index)
	}
	if errors.Is(err, rtnl.ErrNotFound) {
		return nil
	}
	return err
}

// removers is how many messages are under way at a time: whoever comes while one
// waits for the kernel needn't wait for that too.
const removers = 2

// remove has links deleted from the machine's namespace, along with all others
// that wait for it.
func (m *Machine) remove(more []removal) {
	m.removals.add(m, removers, more, func(batch []removal) {
		indexes := make([]int, len(batch))
		for i, one := range batch {
			indexes[i] = one.index
		}
		errs := make([]error, len(batch))
		conn, err := m.dialRoute()
		if err == nil {
			errs = conn.DelLinks(indexes)
			m.giveBack(conn, nil)
		}
		for i, one := range batch {
			one.done <- errors.Join(err, errs[i])
		}
	})
}

// A Joint joins the removals of plugins that are called one after another for
// one attachment. A plugin that waits for nothing but a link which may go later
// is parked, so that the next can be called, until another's link goes or
// [Joint.End] says that none will.
type Joint struct {
	machine *Machine
	mu      sync.Mutex
	parked  []removal
	ended   bool
}

// Joint returns a joint for the plugins of a list.
func (m *Machine) Joint() *Joint { return &Joint{machine: m} }

// End has the links deleted that are still waited for.
func (j *Joint) End() {
	j.mu.Lock()
	j.ended = true
	j.mu.Unlock()
	j.machine.remove(j.take())
}

func (j *Joint) take() []removal {
	j.mu.Lock()
	defer j.mu.Unlock()
	parked := j.parked
	j.parked = nil
	return parked
}

// A Member is one call of a plugin within a joint. The nil Member is in none.
type Member struct {
	joint *Joint
	once  sync.Once
	wait  chan struct{}
}

// Member returns one for a call.
func (j *Joint) Member() *Member { return &Member{joint: j, wait: make(chan struct{})} }

// Parked is closed when the call waits for others' removals.
func (c *Member) Parked() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.wait
}

// park reports whether a removal can be left to others.
func (c *Member) park(own removal) bool {
	if c == nil {
		return false
	}
	c.joint.mu.Lock()
	defer c.joint.mu.Unlock()
	if c.joint.ended {
		return false
	}
	c.joint.parked = append(c.joint.parked, own)
	c.once.Do(func() { close(c.wait) })
	return true
}

// others are the removals that were left to this call.
func (c *Member) others() []removal {
	if c == nil {
		return nil
	}
	return c.joint.take()
}

// Package state declares kernel state and makes it so.
//
// A plugin describes what an attachment wants of the kernel as a [Plan], an
// ordered list of steps. The [Engine] applies a plan (ADD), compares it with
// what is there (CHECK), and removes what belongs to an owner (DEL, GC). Only
// the engine writes.
//
// The kinds of object live in sub-packages: link, addr, route, sysctl,
// masquerade and so on, one each.
package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// NS tells which namespace an object lives in: the host's, in which the
// runtime runs, or the sandbox, which is the container's.
type NS string

// The two namespaces of an attachment.
const (
	Host    NS = "host"
	Sandbox NS = "sandbox"
)

// A Key names an object among all objects of an attachment. Keys of objects
// that have to be removed by name are computable from the configuration and
// the owner alone, or else are kept in the owner's record.
type Key struct {
	NS   NS     `json:"ns"`
	Kind string `json:"kind"` // the name of a Kind
	Name string `json:"name"`
}

// String leaves out the parts of the name that are empty.
func (k Key) String() string {
	return fmt.Sprintf("%s %s %s", k.NS, k.Kind, strings.Join(strings.Fields(k.Name), " "))
}

// A Drift is one difference between what a plan wants and what is there. An
// absent object is one Drift with an empty Field.
type Drift struct {
	Key   Key
	Field string // the field that differs; empty when the object is absent
	Want  string
	Got   string
}

func (d Drift) String() string {
	if d.Field == "" {
		return fmt.Sprintf("%s is missing", d.Key)
	}
	return fmt.Sprintf("%s: %s is %s, want %s", d.Key, d.Field, cmp.Or(d.Got, none), cmp.Or(d.Want, none))
}

// none stands for an empty value.
const none = "nothing"

// Missing is the drift of an object that is not there.
func Missing(k Key) []Drift { return []Drift{{Key: k}} }

// A Resource is one kernel object and those of its fields that are managed. A
// field left unset is not managed. Ensure and Diff are idempotent.
type Resource interface {
	Key() Key

	// Ensure makes the object be there as described and returns how to take
	// back what this call did, nil if it did nothing. When it fails it has
	// taken back what it did itself.
	Ensure(ctx context.Context, k *Kernel) (Undo, error)

	// Diff reads the object and reports what differs, nothing if nothing
	// does. An absent object is a Drift, not an error.
	Diff(ctx context.Context, r Reader) ([]Drift, error)
}

// An Undo takes back one Ensure.
type Undo func(ctx context.Context) error

// A Step is a resource within a plan.
type Step struct {
	Resource

	// Shared marks an object that outlives the attachment and is used by
	// others too, such as a bridge. It is neither undone nor removed.
	Shared bool

	// Within is the link that the object sits on and vanishes with: an
	// address, a route, a sysctl. The zero Key means that the object has to
	// be removed by its own key.
	Within Key
}

// Own is the step of an object that belongs to the attachment and has to be
// removed by its own key.
func Own(r Resource) Step { return Step{Resource: r} }

// On is the step of an object that vanishes with the given link.
func On(link Key, r Resource) Step { return Step{Resource: r, Within: link} }

// Share is the step of an object that outlives the attachment.
func Share(r Resource) Step { return Step{Resource: r, Shared: true} }

// Owned reports whether the object has to be removed by its own key, and so is on
// record.
func (s Step) Owned() bool { return !s.Shared && s.Within == (Key{}) }

// A Plan is what an attachment wants, in the order in which it can be made.
type Plan []Step

// Objects returns the objects that have to be removed one by one, which are all
// but the shared ones and those that vanish with a link, with what was there
// before them.
func (p Plan) Objects(ctx context.Context, r Reader) ([]Object, error) {
	var objects []Object
	for _, s := range p {
		if !s.Owned() {
			continue
		}
		o := Object{Key: s.Key()}
		if rs, ok := s.Resource.(Restorer); ok {
			before, err := rs.Before(ctx, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.Key, err)
			}
			o.Before = before
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// A Restorer is a resource that changes what was there before, and whose
// removal gives that back: a device that is taken, a setting.
type Restorer interface {
	Resource

	// Before reads what has to be given back, nil if that is nothing. It is
	// recorded before anything is changed.
	Before(context.Context, Reader) (json.RawMessage, error)
}

// A Marked resource tells plumb's own from what another implementation made: by
// the owner's tag, or a name that follows from the owner.
type Marked interface {
	Resource

	// Marked reports whether what is there has the owner's mark. What is
	// absent has none.
	Marked(context.Context, Reader) (bool, error)
}

// An Extended resource is more than other implementations make of the same
// configuration.
type Extended interface {
	Resource

	// Common is the part that they make as well, with which CHECK compares
	// an attachment of theirs; nil for none.
	Common() Resource
}

// Beyond returns a resource that other implementations don't make at all.
func Beyond(r Resource) Extended { return beyond{r} }

type beyond struct{ Resource }

// Common is nothing.
func (beyond) Common() Resource { return nil }

// Common returns a plan without what other implementations don't make.
func (p Plan) Common() Plan {
	var common Plan
	for _, s := range p {
		if x, ok := s.Resource.(Extended); ok {
			s.Resource = x.Common()
		}
		if s.Resource != nil {
			common = append(common, s)
		}
	}
	return common
}

// An Object is what a Kind removes.
type Object struct {
	Key    Key             `json:"key"`
	Before json.RawMessage `json:"before,omitempty"` // what to give back

	// Recorded tells that our own record names the object, in this very
	// sandbox. Otherwise it was computed or found, and may by now be
	// somebody else's.
	Recorded bool `json:"-"`

	// Addresses that IPAM gave, as far as it is recorded: what tells the
	// attachment's interface from another that has come to have its name.
	Addresses []netip.Addr `json:"-"`
}

// A Kind removes and finds the objects of one kind. The set is closed: a
// plugin lists those that it uses.
type Kind interface {
	// Kind returns the name that keys carry.
	Kind() string

	// Remove removes the object if it is there and, as far as can be told,
	// still the owner's. An object that is gone, or by now somebody else's,
	// is success.
	Remove(ctx context.Context, k *Kernel, obj Object, o Owner) error

	// Garbage returns the objects in the host's namespace that belong to a
	// network but to none of its valid attachments. It may be as slow as a
	// dump, which only GC is.
	Garbage(ctx context.Context, r Reader, network string, valid []Owner) ([]Found, error)
}

// A Coverer is a kind whose keys may be less exact where they are computed than
// where they are recorded, which makes their removal slower.
type Coverer interface {
	Kind

	// Covers tells whether the removal of what is recorded does all that the
	// removal of what was computed would.
	Covers(recorded, computed Key) bool
}

// Found is an object that carries an owner's tag.
type Found struct {
	Key   Key
	Owner Owner
}

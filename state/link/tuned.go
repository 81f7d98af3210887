package link

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/state"
	"golang.org/x/sys/unix"
)

// Attributes are properties of a link. One that is not set is not managed.
type Attributes struct {
	MAC      net.HardwareAddr `json:"mac,omitempty"`
	MTU      int              `json:"mtu,omitempty"`
	Promisc  *bool            `json:"promisc,omitempty"`
	AllMulti *bool            `json:"allmulti,omitempty"`
	TxQLen   *int             `json:"txQLen,omitempty"`
}

// IsZero reports whether none is set.
func (a Attributes) IsZero() bool {
	return a.MAC == nil && a.MTU == 0 && a.Promisc == nil && a.AllMulti == nil && a.TxQLen == nil
}

// names lists those that are set.
func (a Attributes) names() string {
	var names []string
	add := func(name string, set bool) {
		if set {
			names = append(names, name)
		}
	}
	add("mac", a.MAC != nil)
	add("mtu", a.MTU != 0)
	add("promisc", a.Promisc != nil)
	add("allmulti", a.AllMulti != nil)
	add("txQLen", a.TxQLen != nil)
	return strings.Join(names, ",")
}

// A Tuned is the attributes of a link in the sandbox, which are given back in the
// end: the link may be the host's.
type Tuned struct {
	Link string
	Attributes

	// Backup is the file in which the reference would have noted what the
	// attributes were.
	Backup string
}

var (
	_ state.Restorer = Tuned{}
	_ state.Marked   = Tuned{}
)

const tunedKindName = "tuned"

// Key names the link and the attributes: what was before another set of them is
// remembered separately.
func (d Tuned) Key() state.Key {
	return state.Key{NS: state.Sandbox, Kind: tunedKindName, Name: d.Link + " " + d.names()}
}

// Marked reports whether there is no such file. A link has no place for a mark of
// who has changed it.
func (d Tuned) Marked(context.Context, state.Reader) (bool, error) {
	_, err := os.Lstat(d.Backup)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Before reads the attributes that are about to be set.
func (d Tuned) Before(_ context.Context, r state.Reader) (json.RawMessage, error) {
	conn, err := r.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(d.Link)
	if err != nil {
		return nil, err
	}
	return json.Marshal(d.of(l))
}

// of returns what a link has of those attributes that are set here.
func (a Attributes) of(l *rtnl.Link) Attributes {
	var of Attributes
	if a.MAC != nil {
		of.MAC = l.MAC
	}
	if a.MTU != 0 {
		of.MTU = l.MTU
	}
	if a.Promisc != nil {
		of.Promisc = &l.SetPromisc
	}
	if a.AllMulti != nil {
		of.AllMulti = &l.SetAllMulti
	}
	if a.TxQLen != nil {
		of.TxQLen = &l.TxQLen
	}
	return of
}

// String lists those that are set with their values.
func (a Attributes) String() string {
	var list []string
	add := func(name string, value any) { list = append(list, fmt.Sprintf("%s %v", name, value)) }
	if a.MAC != nil {
		add("mac", a.MAC)
	}
	if a.MTU != 0 {
		add("mtu", a.MTU)
	}
	if a.Promisc != nil {
		add("promisc", *a.Promisc)
	}
	if a.AllMulti != nil {
		add("allmulti", *a.AllMulti)
	}
	if a.TxQLen != nil {
		add("txQLen", *a.TxQLen)
	}
	return strings.Join(list, ", ")
}

func (a Attributes) apply(conn *rtnl.Conn, index int) error {
	return conn.SetLink(index, rtnl.Change{MAC: a.MAC, MTU: a.MTU, Promisc: a.Promisc, AllMulti: a.AllMulti, TxQLen: a.TxQLen})
}

// Ensure sets the attributes. It fails with cni.CodeInvalidConfig for values that
// the device does not take, and with cni.CodeUnsupportedField for what it has not.
func (d Tuned) Ensure(_ context.Context, k *state.Kernel) (state.Undo, error) {
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return nil, err
	}
	l, err := conn.Link(d.Link)
	if err != nil {
		return nil, err
	}
	before := d.of(l)
	undo := func(context.Context) error { return before.apply(conn, l.Index) }
	if err := d.apply(conn, l.Index); err != nil {
		return nil, errors.Join(d.refused(err, l), undo(nil))
	}
	return undo, nil
}

// refused says of the kernel's refusal to set attributes of a link what to do.
func (d Tuned) refused(err error, l *rtnl.Link) error {
	code, hint := cni.CodeInternal, ""
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.EADDRNOTAVAIL):
		code = cni.CodeInvalidConfig
		hint = fmt.Sprintf("the device does not take all of the values; it has %s now", d.of(l))
	case errors.Is(err, unix.EOPNOTSUPP):
		code = cni.CodeUnsupportedField
		hint = fmt.Sprintf("a device of kind %s can't have all of them set", cmp.Or(l.Kind, "physical"))
	case errors.Is(err, unix.EBUSY):
		code, hint = cni.CodeTryAgain, "something else uses the device just now"
	}
	return cni.Errorf(code, "%s: set %s: %w", d.Link, d.Attributes, err).WithDetails(hint)
}

// Diff compares the attributes.
func (d Tuned) Diff(_ context.Context, r state.Reader) ([]state.Drift, error) {
	l, err := look(r, state.Sandbox, d.Link)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return state.Missing(SandboxKey(d.Link)), nil
	}
	c := comparison{key: SandboxKey(d.Link)}
	got := d.of(l)
	if d.MAC != nil {
		compare(&c, "mac", d.MAC.String(), got.MAC.String())
	}
	compare(&c, "mtu", d.MTU, got.MTU)
	compareSet(&c, "promisc", d.Promisc, got.Promisc)
	compareSet(&c, "allmulti", d.AllMulti, got.AllMulti)
	compareSet(&c, "txQLen", d.TxQLen, got.TxQLen)
	return c.drifts, nil
}

// compareSet compares what is set.
func compareSet[T comparable](c *comparison, field string, want, got *T) {
	if want != nil {
		compare(c, field, *want, *got)
	}
}

// TunedKind gives back what links were before.
type TunedKind struct{}

var _ state.Kind = TunedKind{}

// Kind returns "tuned".
func (TunedKind) Kind() string { return tunedKindName }

// Remove sets the attributes to what a record says that they were.
func (TunedKind) Remove(_ context.Context, k *state.Kernel, obj state.Object, _ state.Owner) error {
	var before Attributes
	if !obj.Recorded || json.Unmarshal(obj.Before, &before) != nil || before.IsZero() {
		return nil
	}
	name, _, _ := strings.Cut(obj.Key.Name, " ")
	return restore(k, name, before)
}

// restore sets the attributes of a link in the sandbox, if both are still there.
func restore(k *state.Kernel, name string, before Attributes) error {
	l, err := look(k.Reader(), state.Sandbox, name)
	if err != nil || l == nil {
		return err
	}
	conn, err := k.Route(state.Sandbox)
	if err != nil {
		return err
	}
	if err := before.apply(conn, l.Index); err != nil {
		return fmt.Errorf("%s: give back %s: %w", name, before.names(), err)
	}
	return nil
}

// Garbage finds nothing: what was in the sandbox goes with it.
func (TunedKind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}

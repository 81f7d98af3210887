package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/dirlock"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/runtime"
)

// A Record is an attachment of a container: what it is to be, and how it was
// made.
type Record struct {
	Root        string `json:"root"` // of the engine that the container is of
	ContainerID string `json:"containerID"`
	Name        string `json:"name"`
	Want

	// Live says that the container was connected while it ran, and is to be
	// again after a restart.
	Live bool `json:"live,omitempty"`

	NetNS        string          `json:"netns,omitempty"` // path of the namespace; empty while the container is stopped
	NS           netns.ID        `json:"ns"`
	Config       json.RawMessage `json:"config,omitempty"` // the list
	Args         [][2]string     `json:"args,omitempty"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
	Made         time.Time       `json:"made"`

	// restarted says that the record was there before the attachment that is
	// being made, and outlives its failure.
	restarted bool
}

// Is reports whether the record is of the container of that name, or whose ID
// begins with it.
func (r *Record) Is(name string) bool {
	return r.Name == name || name != "" && strings.HasPrefix(r.ContainerID, name)
}

// Stale reports whether the attachment's namespace is gone.
func (r *Record) Stale() bool {
	gone, err := r.gone()
	return r.NetNS != "" && gone && err == nil
}

// gone reports whether the namespace that was attached is gone. An error is doubt:
// one that can't be looked at may be there.
func (r *Record) gone() (bool, error) {
	now, err := identify(r.NetNS)
	if errors.Is(err, netns.ErrGone) {
		return true, nil
	}
	return now != r.NS, err
}

// same reports whether both are of one attachment.
func (r *Record) same(other *Record) bool {
	return r.IfName == other.IfName && r.NetNS == other.NetNS && r.NS == other.NS && r.Made.Equal(other.Made)
}

// attachment is the record as the runtime library has it.
func (r *Record) attachment() runtime.Attachment {
	return runtime.Attachment{ContainerID: r.ContainerID, NetNS: r.NetNS, IfName: r.IfName, Args: r.Args, CapabilityArgs: r.Capabilities}
}

// granted refuses a result that has not the addresses that were asked for:
// plugins are free to leave out of account what they don't know.
func (r *Record) granted(result *cni.Result) error {
	for _, want := range r.IPs {
		addr, err := address(want)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(result.IPs, func(ip cni.IP) bool { return ip.Address.Addr() == addr }) {
			return fmt.Errorf("container %s: network %q gave it another address than %s", r.Name, r.Network, want)
		}
	}
	if r.MAC == "" {
		return nil
	}
	want, err := net.ParseMAC(r.MAC)
	if err != nil {
		return err
	}
	for _, i := range result.Interfaces {
		if mac, err := net.ParseMAC(i.MAC); err == nil && i.Name == r.IfName && i.Sandbox != "" && mac.String() == want.String() {
			return nil
		}
	}
	return fmt.Errorf("container %s: network %q gave it another hardware address than %s", r.Name, r.Network, r.MAC)
}

// identify returns what tells the namespace at a path from all others, those
// that come later included. The error matches netns.ErrGone if there is none.
func identify(path string) (id netns.ID, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return netns.ID{}, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	if id, err = ns.ID(); err != nil {
		return netns.ID{}, err
	}
	conn, err := rtnl.Dial(ns)
	if err != nil {
		return netns.ID{}, err
	}
	id.Cookie = conn.Cookie()
	return id, conn.Close()
}

// names are the interfaces of records.
func names(records []*Record) map[string]bool {
	taken := map[string]bool{}
	for _, r := range records {
		taken[r.IfName] = true
	}
	return taken
}

// Records is the folder of records: DIR/CONTAINER/INTERFACE.json.
//
// The result cache could not take its place: it is written when an ADD has ended,
// and is shared with other runtimes, whose attachments are none of ours. It is
// kept over a boot, since so is what IPAM has given away.
type Records struct{ Dir string }

const recordSuffix = ".json"

// isRecord tells records from what is being written.
func isRecord(f fs.DirEntry) bool {
	return strings.HasSuffix(f.Name(), recordSuffix) && !strings.HasPrefix(f.Name(), ".")
}

// Containers returns the IDs of containers with records.
func (s Records) Containers() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Of returns a container's records in the order in which they were made, beside
// an error about files that can't be read.
func (s Records) Of(id string) ([]*Record, error) {
	records, torn, err := s.read(id)
	errs := []error{err}
	for path, err := range torn {
		errs = append(errs, fmt.Errorf("record %s: %w", path, err))
	}
	return records, errors.Join(errs...)
}

// read returns the records, and the files that are none with what is wrong of
// them.
func (s Records) read(id string) (records []*Record, torn map[string]error, err error) {
	dir := filepath.Join(s.Dir, id)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	torn = map[string]error{}
	for _, f := range files {
		if !isRecord(f) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		r := new(Record)
		if err = json.Unmarshal(data, r); err == nil && (r.ContainerID != id || r.IfName+recordSuffix != f.Name()) {
			err = errors.New("it is another attachment's")
		}
		if err != nil {
			torn[path] = err
			continue
		}
		records = append(records, r)
	}
	slices.SortStableFunc(records, func(a, b *Record) int { return a.Made.Compare(b.Made) })
	return records, torn, nil
}

// whole returns the records and removes the files that are none. Only a power
// failure tears a record, and it ends what the record told of. The container has
// to be locked.
func (s Records) whole(id string) ([]*Record, error) {
	records, torn, err := s.read(id)
	errs := []error{err}
	for path := range torn {
		errs = append(errs, os.Remove(path))
	}
	return records, errors.Join(errs...)
}

// Lock waits until nobody else has locked the container, makes its folder, and
// returns how to unlock it, which removes the folder if nothing is in it. It fails
// when the context ends.
func (s Records) Lock(ctx context.Context, id string) (unlock func() error, err error) {
	if err := cni.ValidateContainerID(id); err != nil { // it becomes a path
		return nil, err
	}
	release, err := dirlock.Lock(ctx, filepath.Join(s.Dir, id))
	if err != nil {
		return nil, err
	}
	return func() error {
		defer release()
		return s.tidy(id)
	}, nil
}

// tidy removes a container's folder without records, and what a crash left in it.
func (s Records) tidy(id string) error {
	dir := filepath.Join(s.Dir, id)
	files, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(files, isRecord) {
		return err
	}
	return os.RemoveAll(dir)
}

func (s Records) path(r *Record) string {
	return filepath.Join(s.Dir, r.ContainerID, r.IfName+recordSuffix)
}

// write writes a record, whole or not at all. The container has to be locked.
func (s Records) write(r *Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := smallfile.Replace(s.path(r), data, 0o600); err != nil {
		return fmt.Errorf("record of container %s, network %q: %w", r.Name, r.Network, err)
	}
	return nil
}

func (s Records) remove(r *Record) error {
	if err := os.Remove(s.path(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/smallfile"
)

// RecordDir is where records are kept: on a file system that is gone at boot,
// as the kernel state is that they tell of.
const RecordDir = "/run/plumb/attachments"

// A Record is what one plugin did for one attachment, written before it is
// done: what DEL and GC could not tell from the configuration and the owner.
type Record struct {
	Plugin    string       `json:"plugin"`
	Owner     Owner        `json:"owner"`
	NetNS     string       `json:"netns"`   // where ADD found the sandbox
	Sandbox   netns.ID     `json:"sandbox"` // what it was
	Objects   []Object     `json:"objects,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"` // that IPAM gave

	// IPAM is that section of the configuration.
	IPAM json.RawMessage `json:"ipam,omitempty"`
}

// encode returns the record as JSON, as its tags have it. They are followed by hand:
// an ADD writes a record or two, and encoding/json would look for longer at the
// types than all else of that takes.
func (r *Record) encode() []byte {
	b := fmt.Appendf(nil, `{"plugin":%s,"owner":{"network":%s,"containerID":%s,"ifName":%s},"netns":%s,"sandbox":{"dev":%d,"inode":%d`,
		quote(r.Plugin), quote(r.Owner.Network), quote(r.Owner.ContainerID), quote(r.Owner.IfName), quote(r.NetNS), r.Sandbox.Dev, r.Sandbox.Inode)
	if r.Sandbox.Cookie != 0 {
		b = fmt.Appendf(b, `,"cookie":%d`, r.Sandbox.Cookie)
	}
	b = append(b, '}')
	b = appendList(b, "objects", r.Objects, func(b []byte, o Object) []byte {
		b = fmt.Appendf(b, `{"key":{"ns":%s,"kind":%s,"name":%s}`, quote(string(o.Key.NS)), quote(o.Key.Kind), quote(o.Key.Name))
		if len(o.Before) > 0 {
			b = fmt.Appendf(b, `,"before":%s`, o.Before)
		}
		return append(b, '}')
	})
	b = appendList(b, "addresses", r.Addresses, func(b []byte, a netip.Addr) []byte {
		return append(b, quote(a.String())...)
	})
	if len(r.IPAM) > 0 {
		b = fmt.Appendf(b, `,"ipam":%s`, r.IPAM)
	}
	return append(b, '}')
}

// appendList appends a member of an object that is a list, unless that is empty.
func appendList[T any](b []byte, key string, list []T, one func([]byte, T) []byte) []byte {
	for i, item := range list {
		if i == 0 {
			b = fmt.Appendf(b, `,"%s":[`, key)
		} else {
			b = append(b, ',')
		}
		b = one(b, item)
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b
}

// quote returns a string as JSON.
func quote(s string) []byte {
	data, _ := json.Marshal(s) // a string can always be encoded
	return data
}

// Removable returns the objects, marked as recorded, with the addresses.
func (r *Record) Removable() []Object {
	objects := slices.Clone(r.Objects)
	for i := range objects {
		objects[i].Recorded, objects[i].Addresses = true, r.Addresses
	}
	return objects
}

// Alive reports whether the sandbox is still where ADD found it. It fails if
// that can't be told, say for want of file descriptors: what an attachment has
// must not be given to another just then.
func (r *Record) Alive() (bool, error) {
	k, err := OpenKernel(r.NetNS)
	if err != nil {
		return false, err
	}
	defer k.Close()
	id, err := k.SandboxID()
	if errors.Is(err, ErrNoSandbox) {
		return false, nil
	}
	return err == nil && id == r.Sandbox, err
}

// Records is a folder of records, a file each. An empty Dir means RecordDir.
type Records struct{ Dir string }

// Folder is where the records are.
func (r Records) Folder() string { return cmp.Or(r.Dir, RecordDir) }

func (r Records) path(file string) string {
	return filepath.Join(r.Folder(), file)
}

// name returns the file name of a record: the plugin, and the parts of the
// tag, none of which can hold an "@" but the last.
func name(plugin string, o Owner) string {
	return plugin + "@" + strings.ReplaceAll(strings.TrimPrefix(o.Tag(), tagPrefix), "/", "@")
}

// Missing is the drift of a record that is not there.
func (r Records) Missing(plugin string, o Owner) []Drift {
	return Missing(Key{NS: Host, Kind: "record", Name: r.path(name(plugin, o))})
}

// Load returns the record of an attachment, or nil if there is none. A file
// that can't be decoded counts as none, since nothing but a crash leaves one.
func (r Records) Load(plugin string, o Owner) (*Record, error) {
	data, err := smallfile.Read(r.path(name(plugin, o)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, r.failed("read", err)
	}
	rec := new(Record)
	if json.Unmarshal(data, rec) != nil || rec.Owner.Tag() != o.Tag() {
		return nil, nil
	}
	return rec, nil
}

// Save writes a record so that it appears whole, and returns how to take that
// back. An earlier record of the attachment, nil if there is none, is taken
// into the new one: its DEL has not been seen.
func (r Records) Save(rec, earlier *Record) (Undo, error) {
	undo := func(context.Context) error { return r.Delete(rec.Plugin, rec.Owner) }
	if earlier != nil {
		rec.take(earlier)
		undo = func(context.Context) error { return r.write(earlier) }
	}
	return undo, r.write(rec)
}

func (r Records) write(rec *Record) error {
	data := rec.encode()
	path := r.path(name(rec.Plugin, rec.Owner))
	err := smallfile.Replace(path, data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(r.path(""), 0o700); err == nil {
			err = smallfile.Replace(path, data, 0o600)
		}
	}
	if err != nil {
		return r.failed("write", err)
	}
	return nil
}

// Ready fails with cni.CodeUnavailable if no record could be written now. It leaves
// no trace.
func (r Records) Ready() error {
	if err := smallfile.Writable(r.Folder()); err != nil {
		return cni.Errorf(cni.CodeUnavailable, "%w", r.failed("write", err))
	}
	return nil
}

// failed is an error of the folder, with cni.CodeIO.
func (r Records) failed(operation string, err error) error {
	return cni.Errorf(cni.CodeIO, "%s record of the attachment: %w", operation, err).
		WithDetails("plumb keeps in " + r.Folder() + " what DEL has to remove: it has to be writable where plugins run, with room for some KiB an attachment")
}

// take adds what an earlier record of the attachment lists. What was there
// before the first ADD is what has to be given back. What was in another
// sandbox has gone with that.
func (rec *Record) take(old *Record) {
	objects := slices.Clone(old.Objects)
	if old.Sandbox != rec.Sandbox {
		objects = slices.DeleteFunc(objects, func(o Object) bool { return o.Key.NS == Sandbox })
	}
	for _, o := range rec.Objects {
		if !slices.ContainsFunc(objects, func(p Object) bool { return p.Key == o.Key }) {
			objects = append(objects, o)
		}
	}
	rec.Objects = objects
	for _, a := range old.Addresses {
		if !slices.Contains(rec.Addresses, a) {
			rec.Addresses = append(rec.Addresses, a)
		}
	}
}

// Delete removes the record of an attachment. None is success.
func (r Records) Delete(plugin string, o Owner) error {
	// An ADD that was killed before the rename has left its temporary file.
	path := r.path(name(plugin, o))
	for _, file := range []string{smallfile.Temp(path), path} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return r.failed("delete", err)
		}
	}
	return nil
}

// List returns the records of a plugin on a network. It reads the whole
// folder.
func (r Records) List(plugin, network string) ([]Record, error) {
	prefix := name(plugin, Owner{Network: network})
	return r.list(strings.TrimSuffix(prefix, "@")) // of an empty interface
}

// HasOther reports whether a plugin has given an interface of the owner's name to
// another container, in a sandbox. It reads all records of the plugin.
func (r Records) HasOther(plugin string, sandbox netns.ID, o Owner) (bool, error) {
	records, err := r.list(plugin + "@")
	return slices.ContainsFunc(records, func(rec Record) bool {
		return rec.Sandbox == sandbox && rec.Owner.IfName == o.IfName && rec.Owner.ContainerID != o.ContainerID
	}), err
}

// Any reports whether any plugin has recorded an attachment in a sandbox. It lists
// the whole folder.
func (r Records) Any(sandbox netns.ID, o Owner) (bool, error) {
	entries, err := r.entries()
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		plugin, _, _ := strings.Cut(e.Name(), "@")
		if e.Name() != name(plugin, o) {
			continue
		}
		rec, err := r.Load(plugin, o)
		if err != nil || rec != nil && rec.Sandbox == sandbox {
			return err == nil, err
		}
	}
	return false, nil
}

// Alive reports whether any plugin's record of an owner, known by its tag, has a
// sandbox that is still there. It reads the whole folder.
func (r Records) Alive(tag string) (bool, error) {
	all, err := r.All()
	if err != nil {
		return false, err
	}
	for _, rec := range all {
		if rec.Owner.Tag() != tag {
			continue
		}
		if alive, err := rec.Alive(); alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

// All returns the records of all plugins, in the order of their file names.
func (r Records) All() ([]Record, error) { return r.list("") }

// entries lists the folder, which may not be there yet.
func (r Records) entries() ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(r.path(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, r.failed("list", err)
	}
	return entries, nil
}

func (r Records) list(prefix string) ([]Record, error) {
	entries, err := r.entries()
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(r.path(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, r.failed("read", err)
		}
		var rec Record
		if json.Unmarshal(data, &rec) == nil {
			records = append(records, rec)
		}
	}
	return records, nil
}

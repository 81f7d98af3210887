// Package dnsname is the state of a container's names being known to the host's
// resolver, from which containers of its networks learn its addresses.
//
// What the resolver knows are files, one an attachment, in a folder that is gone
// at boot as the attachments are. The resolver is a process that reads them when
// it starts, and is told of each that comes, changes or goes through a socket in
// the same folder. So it may be killed at any time: the next verb that finds it
// missing starts another one, which knows the same.
//
// There is a folder, and a resolver, for each network namespace that is a host:
// usually one.
package dnsname

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/state"
)

// Root is the folder of the hosts' folders.
const Root = "/run/plumb/names"

// Port is where the resolver answers, over UDP and TCP.
const Port = 53

// An Entry is what the resolver knows of an attachment. Names and domains are in
// lower case and have no dot at their end.
type Entry struct {
	Owner     state.Owner    `json:"owner"`
	Names     []string       `json:"names"`     // without the domain; the first is that of its addresses
	Domain    string         `json:"domain"`    // of the network
	Addresses []netip.Prefix `json:"addresses"` // the container's, with their subnets

	// Servers are the host's addresses that the network's containers ask.
	// There may be none.
	Servers []netip.Addr `json:"servers,omitempty"`

	// Remote are the servers for other names, in the place of the host's.
	Remote []netip.AddrPort `json:"remote,omitempty"`

	// MultiDomain shares the network's names with others that do so as well,
	// by their full names.
	MultiDomain bool `json:"multiDomain,omitempty"`
}

// folderOf returns the folder of the host's namespace.
func folderOf(r state.Reader) (string, error) {
	id, err := r.HostID()
	if err != nil {
		return "", err
	}
	// A kernel without cookies may use the inode again, but not while a
	// resolver lives in the namespace.
	return filepath.Join(Root, strconv.FormatUint(cmp.Or(id.Cookie, id.Inode), 10)), nil
}

const (
	entrySuffix = ".json"
	tagPrefix   = "plumb:"
)

// fileOf returns the name of the file of an attachment, by its tag.
func fileOf(tag string) string {
	return strings.ReplaceAll(strings.TrimPrefix(tag, tagPrefix), "/", "@") + entrySuffix
}

// ownerOf returns an owner whose file has a name.
func ownerOf(file string) (state.Owner, bool) {
	name, ok := strings.CutSuffix(file, entrySuffix)
	if !ok || strings.HasPrefix(file, ".") {
		return state.Owner{}, false
	}
	return state.ParseTag(tagPrefix + strings.Replace(name, "@", "/", 2)) // an interface's name may have more
}

// Read returns the entry of a file. A file that is gone is fs.ErrNotExist.
func Read(folder, file string) (*Entry, error) {
	data, err := smallfile.Read(filepath.Join(folder, file))
	if err != nil {
		return nil, err
	}
	e := new(Entry)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("decode %s: %w", filepath.Join(folder, file), err)
	}
	return e, nil
}

// Files returns the names of the files of all entries, none if there is no
// folder.
func Files(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if _, ok := ownerOf(e.Name()); ok {
			files = append(files, e.Name())
		}
	}
	return files, nil
}

// write makes a file appear whole.
func write(folder, file string, e *Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	for range attempts { // the resolver removes the folder when it ends
		if err = os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		if err = smallfile.Replace(filepath.Join(folder, file), data, 0o600); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// erase removes a file, and what a write that was killed has left.
func erase(folder, file string) error {
	var errs []error
	path := filepath.Join(folder, file)
	for _, name := range []string{smallfile.Temp(path), path} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

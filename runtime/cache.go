package runtime

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

const (
	// DefaultCacheDir is where libcni keeps its cache, and so do we.
	DefaultCacheDir = "/var/lib/cni"

	cacheKind    = "cniCacheV1"
	maxCacheFile = 16 << 20

	// tempDir is inside the folder of the cache, because that may be a mount
	// of its own and rename cannot leave one. As a directory it is nothing
	// that a reader of the folder, libcni included, takes for an attachment.
	tempDir = ".plumb-tmp"
	tempAge = time.Hour // a temporary file this old belongs to nobody
)

// Why a file of the cache was not used; wrapped by *CacheError.
var (
	// ErrCacheTorn is a file that is not whole: empty, truncated, not JSON.
	ErrCacheTorn = errors.New("file is torn")

	// ErrCacheForeign is a file that is something else than a cached attachment.
	ErrCacheForeign = errors.New("file is not a cached attachment")

	// ErrCacheOther is a file that holds another attachment than its name was
	// looked up for: "-" separates the parts of a name and is legal in each.
	ErrCacheOther = errors.New("file holds another attachment")

	// ErrCacheResult is a result in the cache that cannot be used.
	ErrCacheResult = errors.New("cached result is unusable")
)

// A CacheError is about one file of the cache.
type CacheError struct {
	Path string
	Err  error
}

// Error names the file.
func (e *CacheError) Error() string { return fmt.Sprintf("cache %s: %v", e.Path, e.Err) }

// Unwrap returns Err.
func (e *CacheError) Unwrap() error { return e.Err }

// A CachedAttachment is what was remembered of an ADD.
type CachedAttachment struct {
	Network string
	Attachment

	// Config is the configuration as it was at the ADD: a list, or a single
	// one. cni.ParseList decodes it. Nil if it isn't known.
	Config []byte

	// Result is what the ADD returned, nil if it isn't known.
	Result *cni.Result

	path string
}

// cacheFile is the format of libcni (kind cniCacheV1).
type cacheFile struct {
	Kind           string          `json:"kind"`
	ContainerID    string          `json:"containerId"`
	Config         []byte          `json:"config"`
	IfName         string          `json:"ifName"`
	NetworkName    string          `json:"networkName"`
	NetNS          string          `json:"netns,omitempty"`
	CNIArgs        [][2]string     `json:"cniArgs,omitempty"`
	CapabilityArgs map[string]any  `json:"capabilityArgs,omitempty"`
	Result         json.RawMessage `json:"result,omitempty"`
}

// encodeCache returns the content of a cache file, its result in the format of
// version.
func encodeCache(a *CachedAttachment, version cni.Version) ([]byte, error) {
	f := cacheFile{
		Kind: cacheKind, ContainerID: a.ContainerID, Config: a.Config, IfName: a.IfName,
		NetworkName: a.Network, NetNS: a.NetNS, CNIArgs: a.Args, CapabilityArgs: a.CapabilityArgs,
	}
	if a.Result != nil {
		var err error
		if f.Result, err = a.Result.Encode(version); err != nil {
			return nil, err
		}
	}
	return json.Marshal(f)
}

// decodeCache decodes the content of a cache file. With ErrCacheResult the rest
// of the attachment is returned all the same.
//
// Before cniCacheV1, libcni kept the bare result. Such a file is returned as an
// attachment without identity.
func decodeCache(data []byte) (*CachedAttachment, error) {
	var f cacheFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // capability arguments come back digit by digit
	err := dec.Decode(&f)
	if err == nil {
		if _, rest := dec.Token(); rest != io.EOF {
			err = errors.New("data after the object")
		}
	}
	if err != nil {
		if json.Valid(data) { // whole, but of another shape
			return nil, fmt.Errorf("%w: %w", ErrCacheForeign, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrCacheTorn, err)
	}
	if f.Kind == "" && f.NetworkName == "" && isResult(data) {
		result, err := cni.DecodeResult(data, cni.V010)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCacheForeign, err)
		}
		return &CachedAttachment{Result: result}, nil
	}
	if f.Kind != cacheKind {
		return nil, fmt.Errorf("%w: kind %q", ErrCacheForeign, f.Kind)
	}
	if err := errors.Join(cni.ValidateName(f.NetworkName), cni.ValidateContainerID(f.ContainerID), cni.ValidateIfName(f.IfName)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCacheForeign, err)
	}
	a := &CachedAttachment{
		Network: f.NetworkName,
		Attachment: Attachment{
			ContainerID: f.ContainerID, NetNS: f.NetNS, IfName: f.IfName,
			Args: f.CNIArgs, CapabilityArgs: f.CapabilityArgs,
		},
		Config: f.Config,
	}
	if len(f.Result) > 0 && string(f.Result) != "null" {
		if a.Result, err = cni.DecodeResult(f.Result, cni.V010); err != nil {
			return a, fmt.Errorf("%w: %w", ErrCacheResult, err)
		}
	}
	return a, nil
}

// isResult reports whether a JSON object has a part that only results have.
func isResult(data []byte) bool {
	var parts struct{ Interfaces, IPs, IP, IP4, IP6 json.RawMessage }
	return json.Unmarshal(data, &parts) == nil &&
		(parts.Interfaces != nil || parts.IPs != nil || parts.IP != nil || parts.IP4 != nil || parts.IP6 != nil)
}

// A cache is the folder of cached attachments.
type cache struct{ dir string }

// paths are the files that may hold an attachment. The first is libcni's. The
// second is used when the first holds another attachment whose name reads the
// same; libcni finds it when it walks the folder.
func (c cache) paths(network string, a Attachment) [2]string {
	name := network + "-" + a.ContainerID + "-" + a.IfName
	sum := sha256.Sum256([]byte(network + "\x00" + a.ContainerID + "\x00" + a.IfName))
	return [2]string{filepath.Join(c.dir, name), filepath.Join(c.dir, name+"-"+hex.EncodeToString(sum[:4]))}
}

// fits refuses an attachment whose file name is too long for a folder, before
// its plugins have done their work in vain.
func (c cache) fits(network string, a Attachment) error {
	const most = 255
	if name := filepath.Base(c.paths(network, a)[0]); len(name) > most {
		return cni.Errorf(cni.CodeInvalidConfig, "network name and container ID are too long for the cache: %d bytes more than %d",
			len(name)-most, most)
	}
	return nil
}

// read reads one file. Errors are *CacheError or match fs.ErrNotExist.
func (c cache) read(path string) (*CachedAttachment, error) {
	// Before it is opened: opening a FIFO would block.
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, &CacheError{path, err}
	}
	if !info.Mode().IsRegular() || info.Size() > maxCacheFile {
		return nil, &CacheError{path, fmt.Errorf("%w: %v, %d bytes", ErrCacheForeign, info.Mode(), info.Size())}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, &CacheError{path, err}
	}
	a, err := decodeCache(data)
	if a != nil {
		a.path = path
	}
	if err != nil {
		return a, &CacheError{path, err}
	}
	return a, nil
}

// A lookup is what find found.
type lookup struct {
	attachment *CachedAttachment // nil if there is none
	remove     []string          // the files that are this attachment's, or its remains
	err        error             // what could not be used, joined *CacheError
}

// find looks an attachment up by its names and by what is inside.
func (c cache) find(network string, a Attachment) lookup {
	var l lookup
	var errs []error
	for i, path := range c.paths(network, a) {
		found, err := c.read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		switch {
		case found == nil:
			errs = append(errs, err)
			if errors.Is(err, ErrCacheTorn) {
				l.remove = append(l.remove, path)
			}
			continue
		case found.Network == "" && i == 0: // before cniCacheV1: the name is all there is
			found.Network, found.ContainerID, found.IfName = network, a.ContainerID, a.IfName
		case !found.is(network, a):
			errs = append(errs, &CacheError{path, fmt.Errorf("%w: network %q, container %q, interface %q",
				ErrCacheOther, found.Network, found.ContainerID, found.IfName)})
			continue
		}
		if err != nil {
			errs = append(errs, err)
		}
		l.remove = append(l.remove, path)
		if l.attachment == nil {
			l.attachment = found
		}
	}
	l.err = errors.Join(errs...)
	return l
}

// write stores an attachment, whole or not at all: to a temporary file first,
// renamed then. It is not synced to disk; a file that a power failure tears is
// recognized as such.
func (c cache) write(a *CachedAttachment, version cni.Version) error {
	data, err := encodeCache(a, version)
	if err != nil {
		return err
	}
	temp := filepath.Join(c.dir, tempDir)
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return err
	}
	paths := c.paths(a.Network, a.Attachment)
	path := paths[0]
	// What is whole and not ours is not ours to replace.
	found, err := c.read(path)
	if found == nil && errors.Is(err, ErrCacheForeign) ||
		found != nil && found.Network != "" && !found.is(a.Network, a.Attachment) {
		path = paths[1]
	}
	f, err := os.CreateTemp(temp, "*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// previous returns the result as a plugin is sent it, nil if there is none.
func (a *CachedAttachment) previous(version cni.Version) (json.RawMessage, error) {
	if a.Result == nil {
		return nil, nil
	}
	data, err := a.Result.Encode(version)
	if err != nil {
		return nil, &CacheError{a.path, fmt.Errorf("%w: %w", ErrCacheResult, err)}
	}
	return data, nil
}

// is reports whether a is that attachment.
func (a *CachedAttachment) is(network string, b Attachment) bool {
	return a.Network == network && a.ContainerID == b.ContainerID && a.IfName == b.IfName
}

// remove removes files; one that is gone is no error.
func (c cache) remove(paths []string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, &CacheError{path, err})
		}
	}
	return errors.Join(errs...)
}

// all returns every attachment of the folder, in the order of file names, and
// joined *CacheError about the files that are none. The folder may be missing.
func (c cache) all() ([]*CachedAttachment, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("read cache folder: %w", err)
	}
	var (
		found []*CachedAttachment
		errs  []error
	)
	for _, entry := range entries {
		if entry.Name() == tempDir {
			continue
		}
		a, err := c.read(filepath.Join(c.dir, entry.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		switch {
		case a == nil:
		case a.Network == "":
			errs = append(errs, &CacheError{a.path, fmt.Errorf("%w: a result without identity", ErrCacheForeign)})
		default:
			found = append(found, a)
		}
	}
	return found, errors.Join(errs...)
}

// sweep removes temporary files that a crash has left.
func (c cache) sweep(now time.Time) {
	temp := filepath.Join(c.dir, tempDir)
	entries, _ := os.ReadDir(temp)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) > tempAge {
			_ = os.Remove(filepath.Join(temp, entry.Name()))
		}
	}
}

package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

// Errors of Check, beside those of plugins.
var (
	// ErrNoCheck says that a network's version of the protocol has no CHECK.
	// It comes with cni.CodeIncompatibleVersion.
	ErrNoCheck = errors.New("CHECK exists since CNI version 0.4.0")

	// ErrNotAttached says that the cache has no result to check against. It
	// comes with cni.CodeUnknownContainer.
	ErrNotAttached = errors.New("no result of an ADD in the cache")
)

// A Runtime runs network configurations. Its fields must not change once it is
// in use; its methods may be called concurrently.
type Runtime struct {
	// Path are the folders to search for plugins, in order.
	Path []string

	// CacheDir is the folder whose subfolder "results" is the cache. Empty
	// means DefaultCacheDir.
	CacheDir string

	// Invoker calls the plugins. Nil means &Exec{}.
	Invoker Invoker

	// Warn is told what went wrong without keeping an operation from its end:
	// *CacheError, mostly. Nil discards it. It may be called concurrently.
	Warn func(error)

	// PassCapabilities leaves the key "capabilities" in what plugins are sent,
	// as libcni does. The specification wants it removed (section 3,
	// "Deriving request configuration from plugin configuration").
	PassCapabilities bool
}

// An Attachment is a container's interface on a network, and what the caller
// says about it (SPEC section 3, "Attachment Parameters").
type Attachment struct {
	ContainerID string
	NetNS       string // path of the network namespace; may be empty on DEL
	IfName      string

	// Args become CNI_ARGS, in this order. On CHECK and DEL, nil means those
	// of the ADD, from the cache.
	Args [][2]string

	// CapabilityArgs are offered to the plugins: each is given those that its
	// configuration declares. The values must be encodable as JSON. On CHECK
	// and DEL, nil means those of the ADD, from the cache.
	CapabilityArgs map[string]any
}

// GCArgs say which attachments GC is to leave alone.
type GCArgs struct {
	Valid []cni.Attachment // nil and empty: none is valid
}

// Add calls every plugin of the list with ADD and returns the last one's
// result, which it also caches. It stops at the first error; DEL must follow
// then (SPEC section 3, "Lifecycle & Ordering"). Errors wrap *PluginError when
// a plugin failed, and *cni.Error when an argument is invalid.
func (r *Runtime) Add(ctx context.Context, list *cni.List, a Attachment) (*cni.Result, error) {
	args, err := r.validate(list, a, true)
	if err == nil {
		err = r.cache().fits(list.Name, a)
	}
	if err != nil {
		return nil, fmt.Errorf("add to network %q: %w", list.Name, err)
	}
	c := &calls{Runtime: r, list: list, attachment: a, args: args}
	result, err := c.add(ctx, nil)
	if err != nil {
		return nil, err
	}
	cached := &CachedAttachment{Network: list.Name, Attachment: a, Config: list.Raw, Result: result}
	if err := r.cache().write(cached, list.CNIVersion); err != nil {
		return nil, fmt.Errorf("add to network %q: cache attachment of container %q: %w", list.Name, a.ContainerID, err)
	}
	return result, nil
}

// Check calls every plugin of the list with CHECK and the cached result. It
// stops at the first error, and does nothing when the list disables CHECK.
// Errors match ErrNoCheck below version 0.4.0 and ErrNotAttached without a
// cached result, besides what Add returns.
func (r *Runtime) Check(ctx context.Context, list *cni.List, a Attachment) error {
	if !list.CNIVersion.AtLeast(cni.V040) {
		return cni.Errorf(cni.CodeIncompatibleVersion, "check network %q of version %s: %w", list.Name, list.CNIVersion, ErrNoCheck)
	}
	if list.DisableCheck {
		return nil
	}
	if _, err := r.validate(list, a, true); err != nil {
		return fmt.Errorf("check network %q: %w", list.Name, err)
	}
	found := r.cache().find(list.Name, a)
	if found.attachment == nil || found.attachment.Result == nil {
		return cni.Errorf(cni.CodeUnknownContainer, "check network %q, container %q, interface %q: %w",
			list.Name, a.ContainerID, a.IfName, errors.Join(ErrNotAttached, found.err))
	}
	r.warn(found.err)
	a = a.with(found.attachment)
	args, err := joinArgs(a.Args)
	if err != nil {
		return fmt.Errorf("check network %q: %w", list.Name, err)
	}
	prev, err := found.attachment.previous(list.CNIVersion)
	if err != nil {
		return fmt.Errorf("check network %q: %w", list.Name, err)
	}
	c := &calls{Runtime: r, list: list, attachment: a, args: args}
	return c.check(ctx, prev)
}

// Del calls every plugin of the list with DEL, the last first, and removes the
// attachment from the cache when all have succeeded. A plugin that fails or is
// missing doesn't keep the others from being called; their errors are joined.
// When ctx ends, the remaining plugins are not called, and the error says so.
//
// An attachment that isn't cached is deleted without a previous result.
func (r *Runtime) Del(ctx context.Context, list *cni.List, a Attachment) error {
	if _, err := r.validate(list, a, false); err != nil {
		return fmt.Errorf("delete from network %q: %w", list.Name, err)
	}
	found := r.cache().find(list.Name, a)
	r.warn(found.err)
	return r.del(ctx, list, a, found)
}

func (r *Runtime) del(ctx context.Context, list *cni.List, a Attachment, found lookup) error {
	var prev json.RawMessage
	if cached := found.attachment; cached != nil {
		a = a.with(cached)
		if list.CNIVersion.AtLeast(cni.V040) { // the version that brought prevResult to DEL
			var err error
			if prev, err = cached.previous(list.CNIVersion); err != nil {
				r.warn(err)
			}
		}
	}
	args, err := joinArgs(a.Args)
	if err != nil { // from the cache: what the caller gave has been validated
		r.warn(&CacheError{found.attachment.path, err})
	}
	c := &calls{Runtime: r, list: list, attachment: a, args: args}
	if err := c.del(ctx, list.Plugins, prev); err != nil {
		return err
	}
	if err := r.cache().remove(found.remove); err != nil {
		return fmt.Errorf("delete from network %q: %w", list.Name, err)
	}
	return nil
}

// GC deletes the cached attachments of this network, and of no other, that are
// not valid, and then, from version 1.1.0, calls every plugin with GC. It goes
// on after errors and joins them. It does nothing when the list disables GC.
//
// With nil args no cached attachment is valid, but plugins are told nothing of
// validity, and so remove nothing that is not in the cache.
func (r *Runtime) GC(ctx context.Context, list *cni.List, args *GCArgs) error {
	if list.DisableGC {
		return nil
	}
	if err := cni.ValidateName(list.Name); err != nil {
		return fmt.Errorf("collect network: %w", err)
	}
	var valid []cni.Attachment
	if args != nil {
		valid = args.Valid
	}
	keep := make(map[cni.Attachment]bool, len(valid))
	for _, v := range valid {
		keep[v] = true
	}

	var errs []error
	store := r.cache()
	cached, err := store.all()
	if bad := (*CacheError)(nil); err == nil || errors.As(err, &bad) {
		r.warn(err)
	} else {
		errs = append(errs, fmt.Errorf("collect network %q: %w", list.Name, err))
	}
	store.sweep(time.Now())
	stale := slices.DeleteFunc(cached, func(c *CachedAttachment) bool {
		return c.Network != list.Name || keep[cni.Attachment{ContainerID: c.ContainerID, IfName: c.IfName}]
	})
	jobs := make([]Job, len(stale))
	for i, c := range stale {
		jobs[i] = Job{List: list, Attachment: c.Attachment}
	}
	b := Bulk{Concurrency: r.deletions()}
	for _, o := range b.each(ctx, jobs, "delete from", func(i int) (*cni.Result, error) {
		return nil, r.del(ctx, list, stale[i].Attachment, lookup{attachment: stale[i], remove: []string{stale[i].path}})
	}) {
		if o.Err != nil {
			errs = append(errs, fmt.Errorf("collect network %q: stale attachment of container %q, interface %q: %w",
				list.Name, o.Attachment.ContainerID, o.Attachment.IfName, o.Err))
		}
	}
	if list.CNIVersion.AtLeast(cni.V110) {
		errs = append(errs, r.collect(ctx, list, valid, args != nil))
	}
	return errors.Join(errs...)
}

// Status calls every plugin of the list with STATUS and returns the first
// error: cni.CodeUnavailable or cni.CodeLimited, from a plugin that says so. It
// does nothing below version 1.1.0.
func (r *Runtime) Status(ctx context.Context, list *cni.List) error {
	if !list.CNIVersion.AtLeast(cni.V110) {
		return nil
	}
	return r.status(ctx, list)
}

// Version returns the versions of the protocol that a plugin supports.
func (r *Runtime) Version(ctx context.Context, plugin string) ([]cni.Version, error) {
	return r.invoker().Versions(ctx, plugin, r.Path)
}

// Validate asks whether every plugin of the list can be found and supports the
// list's version, and returns the capabilities that they declare, sorted.
// Errors are joined; those about versions match cni.CodeIncompatibleVersion.
func (r *Runtime) Validate(ctx context.Context, list *cni.List) (capabilities []string, err error) {
	var errs []error
	if err := cni.ValidateName(list.Name); err != nil {
		errs = append(errs, err)
	}
	if len(list.Plugins) == 0 {
		errs = append(errs, cni.Errorf(cni.CodeInvalidConfig, "network %q has no plugins", list.Name))
	}
	declared := map[string]bool{}
	asked := map[string]bool{}
	for _, plugin := range list.Plugins {
		for name, ok := range plugin.Capabilities {
			if ok {
				declared[name] = true
			}
		}
		if asked[plugin.Type] {
			continue
		}
		asked[plugin.Type] = true
		versions, err := r.Version(ctx, plugin.Type)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("validate network %q: %w", list.Name, err))
		case !slices.Contains(versions, list.CNIVersion):
			errs = append(errs, cni.Errorf(cni.CodeIncompatibleVersion, "validate network %q: plugin %q does not support version %s",
				list.Name, plugin.Type, list.CNIVersion).WithDetails("it supports "+cni.JoinVersions(versions)))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return slices.Sorted(maps.Keys(declared)), nil
}

// Attachments returns the cached attachments of a container, or of all with an
// empty ID, in the order of their file names. Files that cannot be used are
// reported in the error, as joined *CacheError, beside those that can.
func (r *Runtime) Attachments(containerID string) ([]*CachedAttachment, error) {
	all, err := r.cache().all()
	if containerID != "" {
		all = slices.DeleteFunc(all, func(a *CachedAttachment) bool { return a.ContainerID != containerID })
	}
	return all, err
}

// Cached returns what is cached of one attachment: with the configuration as
// it was then, for a caller who wants DEL to use that one. It is nil if there
// is nothing. The error says what was found in its place, as *CacheError.
func (r *Runtime) Cached(network, containerID, ifName string) (*CachedAttachment, error) {
	a := Attachment{ContainerID: containerID, IfName: ifName}
	if _, err := r.validate(&cni.List{Name: network}, a, false); err != nil {
		return nil, err
	}
	found := r.cache().find(network, a)
	return found.attachment, found.err
}

func (r *Runtime) cache() cache {
	dir := r.CacheDir
	if dir == "" {
		dir = DefaultCacheDir
	}
	return cache{filepath.Join(dir, "results")}
}

func (r *Runtime) invoker() Invoker {
	if r.Invoker == nil {
		return &Exec{}
	}
	return r.Invoker
}

func (r *Runtime) warn(err error) {
	if err != nil && r.Warn != nil {
		r.Warn(err)
	}
}

// validate checks what identifies an attachment, before any plugin is called
// and before its parts become a file name, and returns its CNI_ARGS.
func (r *Runtime) validate(list *cni.List, a Attachment, needsNetNS bool) (args string, err error) {
	if needsNetNS && len(list.Plugins) == 0 {
		return "", cni.Errorf(cni.CodeInvalidConfig, "no plugins in its configuration")
	}
	if err := cni.ValidateName(list.Name); err != nil {
		return "", err
	}
	if err := cni.ValidateContainerID(a.ContainerID); err != nil {
		return "", err
	}
	if err := cni.ValidateIfName(a.IfName); err != nil {
		return "", err
	}
	if needsNetNS && a.NetNS == "" {
		return "", cni.Errorf(cni.CodeInvalidEnvironment, "no network namespace (CNI_NETNS) for container %q", a.ContainerID)
	}
	return joinArgs(a.Args)
}

// with returns a, completed by what the caller left unset and the cache has.
func (a Attachment) with(cached *CachedAttachment) Attachment {
	if a.Args == nil {
		a.Args = cached.Args
	}
	if a.CapabilityArgs == nil {
		a.CapabilityArgs = cached.CapabilityArgs
	}
	return a
}

// types lists the plugins of a configuration for a message.
func types(plugins []*cni.Config) string {
	names := make([]string, len(plugins))
	for i, p := range plugins {
		names[i] = p.Type
	}
	return strings.Join(names, ", ")
}

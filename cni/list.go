package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A List is a network configuration: plugins that are called in order (SPEC
// section 1, "Configuration format").
type List struct {
	Name string

	// CNIVersion is the newest of CNIVersions, which are those that the
	// configuration names in cniVersion and cniVersions and this package
	// understands, ascending. A configuration that names none is of 0.1.0, as
	// libcni has it.
	CNIVersion  Version
	CNIVersions []Version

	DisableCheck           bool // CHECK is not to be called
	DisableGC              bool // GC is not to be called
	LoadOnlyInlinedPlugins bool // plugins in the folder of the network's name don't count

	// Plugins have the name and the version of the list, whatever their own
	// objects say; Raw is the object as it came.
	Plugins []*Config

	Raw    []byte // the list as JSON, without plugins from other files
	Single bool   // made from a configuration of a single plugin, the form before lists
}

// listJSON is the form of a List.
type listJSON struct {
	Name                   string          `json:"name"`
	CNIVersion             string          `json:"cniVersion"`
	CNIVersions            []string        `json:"cniVersions"`
	DisableCheck           json.RawMessage `json:"disableCheck"`
	DisableGC              json.RawMessage `json:"disableGC"`
	LoadOnlyInlinedPlugins json.RawMessage `json:"loadOnlyInlinedPlugins"`
	Plugins                json.RawMessage `json:"plugins"`
	Type                   json.RawMessage `json:"type"`
}

// ParseList decodes a network configuration. One of a single plugin, without
// the key plugins, becomes a list of that plugin; keys that belong to lists
// mean nothing in it.
//
// A list without the key plugins is accepted and has none: they may be in other
// files, see LoadList.
//
// Errors are of CodeDecode for what can't be decoded, of CodeInvalidConfig for
// a list that breaks the specification's rules, and of CodeIncompatibleVersion
// if none of its versions is supported.
func ParseList(data []byte) (*List, error) {
	var w listJSON
	if err := Decode(data, &w, "network configuration"); err != nil {
		return nil, err
	}
	if w.Plugins == nil && w.Type != nil {
		return parseSingle(data, w)
	}
	l, err := newList(data, w)
	if err != nil {
		return nil, err
	}
	if err := l.setFlags(w); err != nil {
		return nil, fmt.Errorf("network %q: %w", l.Name, err)
	}
	if w.Plugins == nil {
		if l.LoadOnlyInlinedPlugins {
			return nil, Errorf(CodeInvalidConfig, "network %q: loadOnlyInlinedPlugins is set, but plugins is missing", l.Name)
		}
		return l, nil
	}

	var plugins []json.RawMessage
	switch err := json.Unmarshal(w.Plugins, &plugins); {
	case err != nil, isNull(w.Plugins):
		return nil, Errorf(CodeDecode, "network %q: plugins is not a list", l.Name)
	case len(plugins) == 0:
		return nil, Errorf(CodeInvalidConfig, "network %q: plugins is empty", l.Name)
	}
	for i, raw := range plugins {
		if err := l.add(raw); err != nil {
			return nil, fmt.Errorf("network %q: plugins[%d]: %w", l.Name, i, err)
		}
	}
	return l, nil
}

// parseSingle makes a list from the configuration of a single plugin.
func parseSingle(data []byte, w listJSON) (*List, error) {
	w.CNIVersions = nil
	l, err := newList(nil, w)
	if err != nil {
		return nil, err
	}
	l.Single = true
	if err := l.add(data); err != nil {
		return nil, fmt.Errorf("network %q: %w", l.Name, err)
	}
	l.Raw = object{
		{"cniVersion", quote(w.CNIVersion)},
		{"name", quote(w.Name)},
		{"plugins", slices.Concat([]byte{'['}, bytes.TrimSpace(data), []byte{']'})},
	}.encode()
	return l, nil
}

// newList makes a list without plugins.
func newList(data []byte, w listJSON) (*List, error) {
	if err := ValidateName(w.Name); err != nil {
		return nil, err
	}
	versions, err := selectVersions(w.CNIVersion, w.CNIVersions)
	if err != nil {
		return nil, fmt.Errorf("network %q: %w", w.Name, err)
	}
	return &List{
		Name:        w.Name,
		CNIVersion:  versions[len(versions)-1],
		CNIVersions: versions,
		Raw:         bytes.Clone(data),
	}, nil
}

// setFlags decodes the flags. libcni takes each as a string too, and so people
// write them.
func (l *List) setFlags(w listJSON) error {
	for _, flag := range []struct {
		key   string
		raw   json.RawMessage
		value *bool
	}{
		{"disableCheck", w.DisableCheck, &l.DisableCheck},
		{"disableGC", w.DisableGC, &l.DisableGC},
		{"loadOnlyInlinedPlugins", w.LoadOnlyInlinedPlugins, &l.LoadOnlyInlinedPlugins},
	} {
		switch strings.ToLower(string(flag.raw)) {
		case `true`, `"true"`:
			*flag.value = true
		case `false`, `"false"`, ``:
			*flag.value = false
		default:
			return Errorf(CodeDecode, "%s: %s is neither true nor false", flag.key, flag.raw)
		}
	}
	return nil
}

// add appends a plugin.
func (l *List) add(raw []byte) error {
	c, _, err := decodeConfig(raw)
	if err != nil {
		return err
	}
	if c.Type == "" {
		return Errorf(CodeInvalidConfig, "type is missing")
	}
	c.Name, c.CNIVersion = l.Name, l.CNIVersion
	l.Plugins = append(l.Plugins, c)
	return nil
}

// selectVersions returns those versions of a list that are supported, ascending
// and at least one (SPEC section 1, "Version considerations").
func selectVersions(version string, versions []string) ([]Version, error) {
	if version != "" {
		versions = append(slices.Clone(versions), version)
	}
	if len(versions) == 0 {
		return []Version{V010}, nil
	}
	var supported []Version
	for _, s := range versions {
		v := Version(s)
		if _, ok := v.numbers(); !ok {
			return nil, Errorf(CodeIncompatibleVersion, "invalid CNI version %q", s)
		}
		if v.Supported() {
			supported = append(supported, v)
		}
	}
	if supported == nil {
		return nil, Errorf(CodeIncompatibleVersion, "incompatible CNI versions: configuration supports %s", strings.Join(versions, ", ")).
			WithDetails("supported are " + JoinVersions(Versions()))
	}
	slices.SortFunc(supported, Version.Compare)
	return slices.Compact(supported), nil
}

// quote returns s as JSON.
func quote(s string) json.RawMessage {
	plain := func(r rune) bool { return r >= ' ' && r < 0x7f && !strings.ContainsRune(`"\<>&`, r) }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return json.RawMessage(`"` + s + `"`)
	}
	data, _ := json.Marshal(s) // a string can always be encoded
	return data
}

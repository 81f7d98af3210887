package cni

import (
	"cmp"
	"slices"
)

// A Version is a version of the CNI protocol, such as "1.0.0".
type Version string

// The versions that this package understands, all that were published
// (spec-upgrades.md).
const (
	V010 Version = "0.1.0"
	V020 Version = "0.2.0"
	V030 Version = "0.3.0"
	V031 Version = "0.3.1"
	V040 Version = "0.4.0"
	V100 Version = "1.0.0"
	V110 Version = "1.1.0"

	// Latest is the newest of them.
	Latest = V110
)

// Versions returns every version that this package understands, ascending.
func Versions() []Version {
	return []Version{V010, V020, V030, V031, V040, V100, V110}
}

// ParseVersion returns s as a Version. The empty string is 0.1.0, the version
// before results and configurations carried one. A version that this package
// doesn't understand is an *Error of CodeIncompatibleVersion.
func ParseVersion(s string) (Version, error) {
	if s == "" {
		return V010, nil
	}
	if v := Version(s); v.Supported() {
		return v, nil
	}
	return "", Errorf(CodeIncompatibleVersion, "unsupported CNI version %q", s)
}

// Supported reports whether this package understands v.
func (v Version) Supported() bool { return slices.Contains(Versions(), v) }

// AtLeast reports whether v is w or newer.
func (v Version) AtLeast(w Version) bool { return v.Compare(w) >= 0 }

// Compare is negative if v is older than w, zero if they are the same and
// positive if v is newer.
func (v Version) Compare(w Version) int {
	return cmp.Compare(v, w)
}

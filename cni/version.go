package cni

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Version is a version of the CNI protocol, such as "1.0.0".
type Version string

// The versions that this package understands, all that were published.
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
// that results and lists without one are of; a Config without one is 0.2.0, see
// there. A version that this package doesn't understand is an *Error of
// CodeIncompatibleVersion.
func ParseVersion(s string) (Version, error) {
	v := Version(s)
	switch {
	case s == "":
		return V010, nil
	case v.Supported():
		return v, nil
	}
	return "", Errorf(CodeIncompatibleVersion, "incompatible CNI version %q", s).
		WithDetails(fmt.Sprintf("supported are %s", JoinVersions(Versions())))
}

// Supported reports whether this package understands v.
func (v Version) Supported() bool { return slices.Contains(Versions(), v) }

// AtLeast reports whether v is w or newer.
func (v Version) AtLeast(w Version) bool { return v.Compare(w) >= 0 }

// Compare is negative if v is older than w, zero if they are the same and
// positive if v is newer. It knows the order of versions that are not
// supported too; what is no version at all is older than every version.
func (v Version) Compare(w Version) int {
	a, _ := v.numbers()
	b, _ := w.numbers()
	return slices.Compare(a, b)
}

// numbers returns major, minor and patch of a version, and whether it is one.
func (v Version) numbers() ([]int, bool) {
	parts := strings.Split(string(v), ".")
	if len(parts) != 3 {
		return nil, false
	}
	var numbers []int
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, int(n))
	}
	return numbers, true
}

// JoinVersions lists versions as people read them: "0.4.0, 1.0.0".
func JoinVersions(versions []Version) string {
	var b strings.Builder
	for i, v := range versions {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(v))
	}
	return b.String()
}

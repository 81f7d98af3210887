// Package version negotiates versions of the specification, and decodes what
// depends on them.
package version

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// Legacy and All are of plugins that support the versions before 0.3.0, and every
// version.
var (
	Legacy = PluginSupports(string(cni.V010), string(cni.V020))
	All    = VersionsStartingFrom(string(cni.V010))
)

// Current is the newest version of the specification that this module implements.
func Current() string { return string(cni.Latest) }

// VersionsStartingFrom returns every version from minVer on. It panics if that is
// none.
func VersionsStartingFrom(minVer string) PluginInfo {
	versions := cni.Versions()
	from := slices.Index(versions, cni.Version(minVer))
	if from < 0 {
		panic(fmt.Sprintf("version.VersionsStartingFrom: no CNI version %q", minVer))
	}
	return pluginInfo(versions[from:])
}

// ParseVersion returns the parts of a version. Those that are missing are 0, and
// the version "" is 0.1.0.
func ParseVersion(version string) (major, minor, micro int, err error) {
	parts, err := numbers(version)
	if err != nil {
		return -1, -1, -1, err
	}
	return parts[0], parts[1], parts[2], nil
}

func numbers(version string) (parts [3]int, err error) {
	if version == "" {
		version = string(cni.V010)
	}
	texts := strings.Split(version, ".")
	if len(texts) > len(parts) {
		return parts, fmt.Errorf("invalid version %q: too many parts", version)
	}
	for i, text := range texts {
		if parts[i], err = strconv.Atoi(text); err != nil {
			return parts, fmt.Errorf("invalid version %q: %w", version, err)
		}
	}
	return parts, nil
}

// GreaterThan reports whether version is newer than otherVersion.
func GreaterThan(version, otherVersion string) (bool, error) {
	order, err := compare(version, otherVersion)
	return err == nil && order > 0, err
}

// GreaterThanOrEqualTo reports whether version is otherVersion or newer.
func GreaterThanOrEqualTo(version, otherVersion string) (bool, error) {
	order, err := compare(version, otherVersion)
	return err == nil && order >= 0, err
}

// compare is negative if a is older than b, zero if they are the same and
// positive if a is newer.
func compare(a, b string) (int, error) {
	first, err := numbers(a)
	if err != nil {
		return 0, err
	}
	second, err := numbers(b)
	return slices.Compare(first[:], second[:]), err
}

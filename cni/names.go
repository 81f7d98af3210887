package cni

import (
	"strings"
	"unicode"
)

// maxIfName is the number of bytes of a Linux interface name: IFNAMSIZ without
// the terminating zero.
const maxIfName = 15

// ValidateName checks the name of a network: a letter or digit, then any number
// of letters, digits, underscores, dots and hyphens, all of ASCII (SPEC section
// 1). Errors are of CodeInvalidConfig.
func ValidateName(name string) error {
	switch {
	case name == "":
		return Errorf(CodeInvalidConfig, "network name is missing")
	case !identifier(name):
		return Errorf(CodeInvalidConfig, "invalid network name %q", name).WithDetails(identifierRule)
	}
	return nil
}

// ValidateContainerID checks a container ID, which has the form of a network's
// name (SPEC section 2). Errors are of CodeInvalidEnvironment.
func ValidateContainerID(id string) error {
	switch {
	case id == "":
		return Errorf(CodeInvalidEnvironment, "CNI_CONTAINERID is missing")
	case !identifier(id):
		return Errorf(CodeInvalidEnvironment, "invalid CNI_CONTAINERID %q", id).WithDetails(identifierRule)
	}
	return nil
}

// ValidateIfName checks the name of an interface by the kernel's rules: 1 to 15
// bytes, not "." or "..", without slash, colon and space. Errors are of
// CodeInvalidEnvironment.
func ValidateIfName(name string) error {
	forbidden := func(r rune) bool { return r == '/' || r == ':' || r == 0 || unicode.IsSpace(r) }
	switch {
	case name == "":
		return Errorf(CodeInvalidEnvironment, "CNI_IFNAME is missing")
	case len(name) > maxIfName:
		return Errorf(CodeInvalidEnvironment, "invalid CNI_IFNAME %q: %d bytes are more than %d", name, len(name), maxIfName)
	case name == ".", name == "..":
		return Errorf(CodeInvalidEnvironment, "invalid CNI_IFNAME %q", name)
	case strings.ContainsFunc(name, forbidden):
		return Errorf(CodeInvalidEnvironment, "invalid CNI_IFNAME %q: it contains a slash, a colon or a space", name)
	}
	return nil
}

const identifierRule = "it must start with a letter or digit, followed by letters, digits, underscores, dots and hyphens"

func identifier(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}

// validateType checks the type of a plugin: it is the name of a file that is
// searched for, so it can't lead out of the folders searched.
func validateType(what, name string) error {
	if name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return Errorf(CodeInvalidConfig, "invalid %s %q: it must be the name of a file, without a path", what, name)
	}
	return nil
}

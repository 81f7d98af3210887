package cni

import "fmt"

// A Code classifies an Error (SPEC section 5, "Error"). A Code is itself an
// error, so that errors.Is(err, cni.CodeTryAgain) tells errors apart.
type Code uint

// The codes that the specification reserves. 100 and up belong to plugins.
const (
	CodeIncompatibleVersion Code = 1
	CodeUnsupportedField    Code = 2
	CodeUnknownContainer    Code = 3 // nothing to clean up: DEL is not needed
	CodeInvalidEnvironment  Code = 4
	CodeIO                  Code = 5
	CodeDecode              Code = 6
	CodeInvalidConfig       Code = 7
	CodeTryAgain            Code = 11
	CodeUnavailable         Code = 50 // STATUS: cannot serve ADD
	CodeLimited             Code = 51 // STATUS: cannot serve ADD, and existing containers suffer
)

// CodeInternal is of an error without a code of its own. The specification
// doesn't know it; the number is the reference's.
const CodeInternal Code = 999

// Error describes the code in words, for a Code that stands alone.
//
// No code at all is that of no error, which a struct that has a Code may hold.
func (c Code) Error() string {
	if c == 0 {
		return "no error"
	}
	return fmt.Sprintf("%s (CNI error code %d)", c.words(), uint(c))
}

func (c Code) words() string {
	switch c {
	case CodeIncompatibleVersion:
		return "incompatible CNI version"
	case CodeUnsupportedField:
		return "unsupported field in network configuration"
	case CodeUnknownContainer:
		return "unknown container"
	case CodeInvalidEnvironment:
		return "invalid environment variables"
	case CodeIO:
		return "I/O failure"
	case CodeDecode:
		return "undecodable content"
	case CodeInvalidConfig:
		return "invalid network configuration"
	case CodeTryAgain:
		return "try again later"
	case CodeUnavailable:
		return "plugin not available"
	case CodeLimited:
		return "plugin not available, connectivity may be limited"
	case CodeInternal:
		return "internal error"
	}
	if c < 100 {
		return "reserved error"
	}
	return "plugin-specific error"
}

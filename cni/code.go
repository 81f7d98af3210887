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

// Codes that the specification doesn't know, with the reference's numbers.
const (
	CodeInvalidNetNS Code = 8   // CNI_NETNS is the plugin's own namespace
	CodeInternal     Code = 999 // an error without a code of its own
)

// Error describes the code in words, for a Code that stands alone.
func (c Code) Error() string {
	words := map[Code]string{
		CodeIncompatibleVersion: "incompatible CNI version",
		CodeUnsupportedField:    "unsupported field in network configuration",
		CodeUnknownContainer:    "unknown container",
		CodeInvalidEnvironment:  "invalid environment variables",
		CodeIO:                  "I/O failure",
		CodeDecode:              "undecodable content",
		CodeInvalidConfig:       "invalid network configuration",
		CodeInvalidNetNS:        "invalid network namespace",
		CodeTryAgain:            "try again later",
		CodeUnavailable:         "plugin not available",
		CodeLimited:             "plugin not available, connectivity may be limited",
		CodeInternal:            "internal error",
	}[c]
	if words == "" {
		words = "plugin-specific error"
	}
	return fmt.Sprintf("%s (CNI error code %d)", words, uint(c))
}

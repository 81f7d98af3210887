package cni

import "fmt"

// A Code classifies an Error (SPEC section 5, "Error"). A Code is itself an
// error, so that errors.Is(err, cni.CodeTryAgain) tells errors apart.
type Code uint

// The codes that the specification reserves. 100 and up belong to plugins.
const (
	CodeIncompatibleVersion Code = 1
	CodeUnsupportedField    Code = 2
	CodeUnknownContainer    Code = 3
	CodeInvalidEnvironment  Code = 4
	CodeIO                  Code = 5
	CodeDecode              Code = 6
	CodeInvalidConfig       Code = 7
	CodeTryAgain            Code = 11
	CodeUnavailable         Code = 50 // STATUS: cannot serve ADD
	CodeLimited             Code = 51 // STATUS: cannot serve ADD, and existing containers suffer
	CodeInternal            Code = 999
)

// Error describes the code in words, for a Code that stands alone.
func (c Code) Error() string { return fmt.Sprintf("CNI error code %d", uint(c)) }

// An Error is what a plugin reports on standard output when it fails.
// It matches its own Code under errors.Is and unwraps to its cause, if it has
// one in this process.
type Error struct {
	Code    Code
	Msg     string
	Details string

	cause error
}

// Errorf returns an Error whose Msg is formatted as fmt.Errorf does; what a
// %w verb wraps becomes the cause.
func Errorf(code Code, format string, a ...any) *Error {
	err := fmt.Errorf(format, a...)
	return &Error{Code: code, Msg: err.Error(), cause: err}
}

// Error returns the message and the details.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// Is reports whether target is e's Code or an *Error of the same code.
func (e *Error) Is(target error) bool { return false }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return nil }

// WithDetails returns a copy of e with details.
func (e *Error) WithDetails(details string) *Error {
	c := *e
	c.Details = details
	return &c
}

// AsError finds an *Error.
func AsError(err error) *Error { return nil }

// Encode returns the JSON.
func (e *Error) Encode(v Version) []byte { return nil }

// DecodeError decodes the JSON.
func DecodeError(data []byte) (*Error, error) { return nil, errTodo }

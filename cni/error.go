package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// An Error is what a plugin reports on standard output when it fails (SPEC
// section 5, "Error"). errors.Is matches it with its Code and with any *Error
// of the same code, and it unwraps to its cause, if it has one in this process.
type Error struct {
	Code    Code
	Msg     string // one short sentence, naming the operation and the object
	Details string // what may help to mend it; may be empty

	cause error
}

// Errorf returns an Error whose Msg is formatted as fmt.Errorf does. Operands
// of %w become its cause.
func Errorf(code Code, format string, a ...any) *Error {
	err := fmt.Errorf(format, a...)
	e := &Error{Code: code, Msg: err.Error(), cause: errors.Unwrap(err)}
	if _, several := err.(interface{ Unwrap() []error }); several {
		e.cause = err
	}
	return e
}

// WithDetails returns a copy of e with the details given.
func (e *Error) WithDetails(details string) *Error {
	c := *e
	c.Details = details
	return &c
}

// Error returns the message, followed by the details if there are any.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// Is reports whether target is e's Code or an *Error of the same code.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Code:
		return e.Code == t
	case *Error:
		return e.Code == t.Code
	}
	return false
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// AsError returns err as an *Error, ready to be reported. The code and the
// details are those of the first *Error in err's chain, the message is err's
// whole text. Without one in the chain the code is CodeInternal. AsError of nil
// is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	var inner *Error
	if !errors.As(err, &inner) {
		return &Error{Code: CodeInternal, Msg: err.Error(), cause: err}
	}
	// The text of err contains the details already; they are not said twice.
	msg := strings.Replace(err.Error(), inner.Error(), inner.Msg, 1)
	return &Error{Code: inner.Code, Msg: msg, Details: inner.Details, cause: err}
}

// errorJSON is the form of an Error on standard output. The reference omits
// the version, which the specification asks for.
type errorJSON struct {
	CNIVersion Version `json:"cniVersion,omitempty"`
	Code       *Code   `json:"code"`
	Msg        string  `json:"msg"`
	Details    string  `json:"details,omitempty"`
}

// Encode returns e as the JSON object that a plugin prints, for a request of
// version v. An empty v is left out, which is right as long as the version of
// the request is not known.
func (e *Error) Encode(v Version) []byte {
	// Strings and numbers only: there is nothing here that could not be encoded.
	data, _ := json.MarshalIndent(errorJSON{v, &e.Code, e.Msg, e.Details}, "", indent)
	return data
}

// DecodeError decodes what a failed plugin printed. Data that is no error
// object, or one without a code and a message, is a CodeDecode error.
func DecodeError(data []byte) (*Error, error) {
	var w errorJSON
	if err := Decode(data, &w, "error"); err != nil {
		return nil, err
	}
	if w.Code == nil && w.Msg == "" {
		return nil, Errorf(CodeDecode, "decode error: neither a code nor a message")
	}
	e := &Error{Msg: w.Msg, Details: w.Details}
	if w.Code != nil {
		e.Code = *w.Code
	}
	return e, nil
}

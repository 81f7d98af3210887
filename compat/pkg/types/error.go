package types

import (
	"encoding/json"
	"os"
)

// The codes of an Error: those of the specification (SPEC section 5, "Error"),
// and three of this API's own: ErrUnknown, ErrInvalidNetNS and ErrInternal.
const (
	ErrUnknown                     uint = 0
	ErrIncompatibleCNIVersion      uint = 1
	ErrUnsupportedField            uint = 2
	ErrUnknownContainer            uint = 3 // nothing to clean up: DEL is not needed
	ErrInvalidEnvironmentVariables uint = 4
	ErrIOFailure                   uint = 5
	ErrDecodingFailure             uint = 6
	ErrInvalidNetworkConfig        uint = 7
	ErrInvalidNetNS                uint = 8
	ErrTryAgainLater               uint = 11
	ErrPluginNotAvailable          uint = 50 // STATUS: cannot serve ADD
	ErrLimitedConnectivity         uint = 51 // STATUS: cannot serve ADD, and existing containers suffer
	ErrInternal                    uint = 999
)

// An Error is what a plugin that fails prints on standard output.
type Error struct {
	Code    uint   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details,omitempty"`
}

// NewError returns an Error. The details may be empty.
func NewError(code uint, msg, details string) *Error {
	return &Error{Code: code, Msg: msg, Details: details}
}

// Error returns the message, followed by the details if there are any.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// Print writes e as JSON to standard output.
func (e *Error) Print() error {
	data, err := json.MarshalIndent(e, "", "    ")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}

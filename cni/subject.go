package cni

import (
	"fmt"
	"strings"
)

// A Subject is what a call of a plugin is about, as errors name it. What is not
// known, or not there for a verb, is empty.
type Subject struct {
	Plugin      string
	Verb        Verb
	Network     string
	ContainerID string
	IfName      string
}

// String is "plugin bridge, ADD, network net, container c1, interface eth0".
func (s Subject) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plugin %s, %s", s.Plugin, s.Verb)
	for _, part := range []struct{ word, name string }{
		{"network", s.Network}, {"container", s.ContainerID}, {"interface", s.IfName},
	} {
		if part.name != "" {
			fmt.Fprintf(&b, ", %s %s", part.word, part.name)
		}
	}
	return b.String()
}

// About returns a copy of e whose details name the subject, behind what they hold.
func (e *Error) About(s Subject) *Error {
	if e.Details == "" {
		return e.WithDetails(s.String())
	}
	return e.WithDetails(e.Details + " (" + s.String() + ")")
}

// NotAbout takes back what About has added, for one who names the subject before
// the error.
func (e *Error) NotAbout(s Subject) *Error {
	if e.Details == s.String() {
		return e.WithDetails("")
	}
	return e.WithDetails(strings.TrimSuffix(e.Details, " ("+s.String()+")"))
}

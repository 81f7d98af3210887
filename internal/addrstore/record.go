package addrstore

import (
	"bytes"
	"errors"
	"strings"
)

// A Record says who holds an address: the content of the file named after it.
type Record struct {
	ContainerID string

	// IfName is empty in records of releases from before 2019, which did not
	// keep it. Such a record stands for any interface of the container.
	IfName string
}

// separator is what the reference puts between the two, on every system.
const separator = "\r\n"

// errTorn means that a record was not written to its end. Nobody got the
// address, because an ADD succeeds only after that.
var errTorn = errors.New("record is incomplete")

// ParseRecord decodes the content of a record. White space around it doesn't
// count, as the reference has it. What nobody of ours wrote, such as an
// operator's note, comes back as a ContainerID that no container has: the
// address is held all the same.
//
// It fails for what a crash leaves behind: nothing, zeros that were never
// overwritten, or an ID whose interface never came.
func ParseRecord(data []byte) (Record, error) {
	text := strings.TrimSpace(string(data))
	if text == "" || strings.Contains(text, "\x00") {
		return Record{}, errTorn
	}
	id, ifName, ok := strings.Cut(text, separator)
	if !ok && bytes.HasSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")) {
		return Record{}, errTorn // only a record with an interface has a carriage return
	}
	return Record{id, ifName}, nil
}

// Bytes returns the content of the record's file.
func (r Record) Bytes() []byte {
	if r.IfName == "" {
		return []byte(r.ContainerID)
	}
	return []byte(r.ContainerID + separator + r.IfName)
}

func (r Record) String() string {
	if r.IfName == "" {
		return "container " + r.ContainerID
	}
	return "container " + r.ContainerID + ", interface " + r.IfName
}

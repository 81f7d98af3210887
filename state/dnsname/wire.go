package dnsname

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

// SocketName is the resolver's socket in the folder. A connection has one
// request and one answer, each a line of JSON.
const SocketName = "resolver.sock"

// MaxLen is the longest line in bytes.
const MaxLen = 1 << 20

// patience bounds the wait for an answer, which takes milliseconds.
const patience = 15 * time.Second

// A Verb is what the resolver is asked to do about an entry.
type Verb string

// Verbs.
const (
	Load  Verb = "load"  // know what the file says, or that it is gone
	Check Verb = "check" // tell what is missing for the entry to be served
)

// A Request names an entry by its file.
type Request struct {
	Verb Verb   `json:"verb"`
	File string `json:"file"`
}

// An Answer comes when it is done.
type Answer struct {
	Code cni.Code `json:"code,omitempty"` // not 0 is an error
	Msg  string   `json:"msg,omitempty"`

	// Missing is what Check found, in words.
	Missing []string `json:"missing,omitempty"`
}

// errNobody means that no resolver has answered: there is none, or it was just
// about to end.
var errNobody = errors.New("the resolver does not answer")

// call asks the resolver of a folder. The error matches errNobody if there is
// none.
func call(ctx context.Context, folder string, q Request) (*Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %v", patience))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(folder, SocketName))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNobody, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	line, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write(append(line, '\n'))
	var answer []byte
	if err == nil {
		answer, err = bufio.NewReader(io.LimitReader(conn, MaxLen)).ReadBytes('\n')
	}
	if ctx.Err() != nil {
		return nil, cni.Errorf(cni.CodeTryAgain, "ask the resolver of %s: %w", folder, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it ended before: %w", errNobody, err)
	}
	a := new(Answer)
	if err := json.Unmarshal(answer, a); err != nil {
		return nil, fmt.Errorf("decode the resolver's answer: %w", err)
	}
	if a.Code != 0 {
		return nil, cni.Errorf(a.Code, "%s", a.Msg)
	}
	return a, nil
}

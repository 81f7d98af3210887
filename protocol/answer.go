package protocol

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// Answer serves a request as [Serve] does, for a caller in the same process. What
// it returns is what a caller of a process would decode: the result of ADD in
// the format of the configuration's version, nil for other verbs, or an
// *cni.Error.
//
// HostNS is that of [Environment]; what a plugin has to say beside its answer,
// such as the stack of a panic, goes to stderr.
func Answer(ctx context.Context, h Handler, req *cni.Request, hostNS string, stderr io.Writer) (*cni.Result, error) {
	c := call{handler: h, env: Environment{
		Getenv: func(name string) string { return variableOf(req, name) },
		Stdin:  bytes.NewReader(req.Config),
		Stderr: stderr,
		HostNS: hostNS,
	}}
	out, err := c.run(ctx)
	if err != nil {
		answer, err := cni.DecodeError(render(err).Encode(c.version))
		if err != nil {
			return nil, err
		}
		return nil, answer
	}
	if len(out) == 0 {
		return nil, nil
	}
	return cni.DecodeResult(out, c.version)
}

// variableOf returns a variable of the environment that a request stands for.
func variableOf(req *cni.Request, name string) string {
	switch name {
	case "CNI_COMMAND":
		return string(req.Verb)
	case "CNI_CONTAINERID":
		return req.ContainerID
	case "CNI_NETNS":
		return req.NetNS
	case "CNI_IFNAME":
		return req.IfName
	case "CNI_ARGS":
		return req.Args
	case "CNI_PATH":
		return strings.Join(req.Path, string(filepath.ListSeparator))
	case "CNI_NETNS_OVERRIDE":
		if req.NetNSOverride {
			return "1"
		}
	}
	return ""
}

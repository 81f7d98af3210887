// Package within calls the plugins of this module in the test's own process, as a
// runtime does that is a Go program.
package within

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/runtime"
)

// invoker is that of all tests of the process.
var invoker = sync.OnceValue(func() *inprocess.Invoker { return inprocess.New(inprocess.Options{}) })

// Plugin answers as host.Plugin does, without a process.
func Plugin(t testing.TB, bin, name string, env []string, stdin string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req := Request(env, stdin)
	if req.Verb == cni.VerbVersion {
		versions, err := invoker().Versions(ctx, name, req.Path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(cni.EncodeVersions("", versions)), "", 0
	}
	result, err := invoker().Invoke(ctx, name, req)
	if err == nil && result == nil {
		return "", "", 0
	}
	if err == nil {
		answer, err := result.Encode(result.CNIVersion)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(answer), "", 0
	}
	var failed *runtime.PluginError
	var answer *cni.Error
	if !errors.As(err, &failed) || !errors.As(err, &answer) {
		t.Fatalf("%s: %v", name, err)
	}
	version := cni.Latest
	if config, err := cni.ParseConfig(req.Config); err == nil {
		version = config.CNIVersion
	}
	return string(answer.Encode(version)), failed.Stderr, 1
}

// Request is what a plugin would make of an environment and standard input.
func Request(env []string, stdin string) *cni.Request {
	value := func(key string) (last string) {
		for _, pair := range env {
			if v, ok := strings.CutPrefix(pair, key+"="); ok {
				last = v
			}
		}
		return last
	}
	return &cni.Request{
		Verb: cni.Verb(value("CNI_COMMAND")), ContainerID: value("CNI_CONTAINERID"), NetNS: value("CNI_NETNS"),
		IfName: value("CNI_IFNAME"), Args: value("CNI_ARGS"), Path: filepath.SplitList(value("CNI_PATH")),
		NetNSOverride: value("CNI_NETNS_OVERRIDE") == "1", Config: []byte(stdin),
	}
}

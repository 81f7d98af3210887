package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/runtime"
	"github.com/plumb-cni/plumb/test/host"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// traced is an Exec of a program's own, which keeps what was executed.
type traced struct {
	invoke.Exec
	calls *[]string
}

func (x traced) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	*x.calls = append(*x.calls, filepath.Base(path))
	return x.Exec.ExecPlugin(ctx, path, stdin, environ)
}

// Networks are the same whichever way plugins are called: by a process for each, by an
// Exec that the program brings, or by an invoker of plumb's, of which one needs no process.
func TestExecs(t *testing.T) {
	internet := host.Internet(t)
	var calls []string
	linked := inprocess.New(inprocess.Options{})
	t.Cleanup(func() { linked.Close() })
	for name, exec := range map[string]invoke.Exec{
		"default":   nil,
		"own":       traced{&invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}, &calls},
		"invoker":   invoke.ExecBy(&runtime.Exec{}),
		"inprocess": invoke.ExecBy(linked),
	} {
		t.Run(name, func(t *testing.T) {
			list, err := libcni.ConfListFromBytes([]byte(web))
			if err != nil {
				t.Fatal(err)
			}
			bin := host.Bin(t)
			if name == "inprocess" {
				bin = t.TempDir() // there is nothing to execute
			}
			networks := libcni.NewCNIConfigWithCacheDir([]string{bin}, t.TempDir(), exec)
			if capabilities, err := networks.ValidateNetworkList(t.Context(), list); err != nil || len(capabilities) != 1 {
				t.Errorf("capabilities %q, %v", capabilities, err)
			}
			calls = nil
			ns := host.NetNS(t)
			rt := &libcni.RuntimeConf{
				ContainerID: "c1", NetNS: ns, IfName: "eth0",
				CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8082, "containerPort": 80, "protocol": "tcp"}}},
			}
			added, err := networks.AddNetworkList(t.Context(), list, rt)
			if err != nil {
				t.Fatal(err)
			}
			result, err := types100.GetResult(added)
			if err != nil || len(result.IPs) != 1 {
				t.Fatalf("%+v, %v", result, err)
			}
			served(t, ns, internet, result.IPs[0].Address.IP.String(), 8082)
			cached, err := networks.GetNetworkListCachedResult(list, rt)
			if err != nil || cached == nil || cached.Version() != list.CNIVersion {
				t.Errorf("cached %v, %v", cached, err)
			}
			if err := networks.CheckNetworkList(t.Context(), list, rt); err != nil {
				t.Error(err)
			}
			config, kept, err := networks.GetNetworkListCachedConfig(list, &libcni.RuntimeConf{ContainerID: "c1", IfName: "eth0"})
			if err != nil || string(config) != web {
				t.Fatalf("cached %s, %v", config, err)
			}
			if port := kept.CapabilityArgs["portMappings"].([]any)[0].(map[string]any)["hostPort"]; port != 8082.0 {
				t.Errorf("the port in the cache is %v (%T)", port, port)
			}

			// What a plugin answers is found in the error, whatever is around it.
			other := *rt
			other.ContainerID, other.NetNS = "c2", host.NetNS(t)
			_, err = networks.AddNetworkList(t.Context(), list, &other)
			var answer *types.Error
			if !errors.As(err, &answer) || answer.Code == 0 || !strings.HasPrefix(err.Error(), `plugin type="portmap" failed (add): `) {
				t.Errorf("ADD with a port that is taken: %v", err)
			}
			for _, c := range []*libcni.RuntimeConf{&other, rt} {
				if err := networks.DelNetworkList(t.Context(), list, c); err != nil {
					t.Error(err)
				}
			}
			if left, err := networks.GetCachedAttachments(""); err != nil || len(left) > 0 {
				t.Errorf("left in the cache: %v, %v", left, err)
			}
			if name == "own" && strings.Join(calls, " ") != "bridge portmap bridge portmap bridge portmap portmap bridge portmap bridge" {
				t.Errorf("executed were %q", calls)
			}
			host.Run(t, "ip", "link", "del", "web0")
		})
	}
}

// A plugin delegates to another with what it was called with itself.
func TestDelegate(t *testing.T) {
	const ipam = `{"cniVersion":"1.1.0","name":"delegated","type":"x","ipam":{"type":"host-local","subnet":"10.79.0.0/24"}}`
	for key, value := range map[string]string{
		"CNI_COMMAND": "CHECK", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": host.NetNS(t), "CNI_PATH": host.Bin(t),
	} {
		t.Setenv(key, value)
	}
	for name, exec := range map[string]invoke.Exec{"default": nil, "invoker": invoke.ExecBy(&runtime.Exec{})} {
		t.Run(name, func(t *testing.T) {
			result, err := invoke.DelegateAdd(t.Context(), "host-local", []byte(ipam), exec)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := types100.GetResult(result); err != nil || len(r.IPs) != 1 || !strings.HasPrefix(r.IPs[0].Address.String(), "10.79.0.") {
				t.Errorf("%+v, %v", r, err)
			}
			if err := invoke.DelegateStatus(t.Context(), "host-local", []byte(ipam), exec); err != nil {
				t.Error(err)
			}
			if err := invoke.DelegateDel(t.Context(), "host-local", []byte(ipam), exec); err != nil {
				t.Error(err)
			}
			_, err = invoke.DelegateAdd(t.Context(), "host-local", []byte(`{"cniVersion":"1.1.0","name":"delegated"}`), exec)
			if answer, ok := err.(*types.Error); !ok || answer.Code != types.ErrInvalidNetworkConfig {
				t.Errorf("without a range: %#v", err)
			}
			file := filepath.Join(host.Bin(t), "host-local")
			info, err := invoke.GetVersionInfo(t.Context(), file, exec)
			if err != nil || strings.Join(info.SupportedVersions(), " ") != strings.Join(version.All.SupportedVersions(), " ") {
				t.Errorf("versions %v, %v", info, err)
			}
		})
	}
}

// script writes a plugin and returns its path.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// A plugin is told which trace it belongs to.
func TestTrace(t *testing.T) {
	id, span := trace.TraceID{1, 2, 3}, trace.SpanID{4, 5}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled}))
	member, err := baggage.NewMember("pod", "a")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	file := script(t, t.TempDir(), "p", `echo "$CNI_COMMAND $TRACEPARENT $BAGGAGE"`)
	out, err := new(invoke.RawExec).ExecPlugin(baggage.ContextWithBaggage(ctx, bag), file, nil, []string{"CNI_COMMAND=DEL"})
	if want := fmt.Sprintf("DEL 00-%s-%s-01 pod=a\n", id, span); err != nil || string(out) != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}

// A plugin that is told to stop may undo what it did. The error is one that every caller understands.
func TestEnd(t *testing.T) {
	dir := t.TempDir()
	file := script(t, dir, "p", `trap 'echo undone >&2; exit 1' TERM; echo > `+dir+`/ready; while :; do sleep 0.01; done`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for {
			if _, err := os.Stat(dir + "/ready"); err == nil || t.Context().Err() != nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := new(invoke.RawExec).ExecPlugin(ctx, file, nil, nil)
	var answer *types.Error
	var call *runtime.PluginError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &answer) || !errors.As(err, &call) || !strings.HasPrefix(err.Error(), "netplugin failed: ") || !strings.Contains(err.Error(), "undone") {
		t.Errorf("%v", err)
	}
}

// DEL of a list calls every plugin, tells of all that failed, and can be repeated.
func TestDelGoesOn(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"a"},{"type":"b"},{"type":"c"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	fails := `echo "$CNI_COMMAND $0" >>` + log + `; [ $CNI_COMMAND = DEL ] && { echo '{"code":%d,"msg":"not now"}'; exit 1; }; echo '{"cniVersion":"1.0.0"}'`
	works := `echo "$CNI_COMMAND $0" >>` + log + `; [ $CNI_COMMAND = DEL ] || echo '{"cniVersion":"1.0.0"}'`
	script(t, dir, "a", works)
	script(t, dir, "b", fmt.Sprintf(fails, types.ErrTryAgainLater))
	script(t, dir, "c", fmt.Sprintf(fails, types.ErrIOFailure))
	networks := libcni.NewCNIConfigWithCacheDir([]string{dir}, t.TempDir(), nil)
	rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: "/run/netns/c1", IfName: "eth0"}
	if _, err := networks.AddNetworkList(t.Context(), list, rt); err != nil {
		t.Fatal(err)
	}
	err = networks.DelNetworkList(t.Context(), list, rt)
	const want = "plugin type=\"c\" failed (delete): not now\nplugin type=\"b\" failed (delete): not now"
	if answer := (*types.Error)(nil); err == nil || err.Error() != want || !errors.As(err, &answer) || answer.Code != types.ErrIOFailure {
		t.Errorf("%v", err)
	}
	script(t, dir, "b", works)
	script(t, dir, "c", works)
	if cached, err := networks.GetCachedAttachments("c1"); err != nil || len(cached) != 1 {
		t.Errorf("cached %v, %v", cached, err)
	}
	if err := networks.DelNetworkList(t.Context(), list, rt); err != nil {
		t.Error(err)
	}
	if cached, err := networks.GetCachedAttachments("c1"); err != nil || cached != nil {
		t.Errorf("cached %v, %v", cached, err)
	}
	called, err := os.ReadFile(log)
	if calls := strings.ReplaceAll(string(called), dir+"/", ""); err != nil || calls != "ADD a\nADD b\nADD c\nDEL c\nDEL b\nDEL a\nDEL c\nDEL b\nDEL a\n" {
		t.Errorf("calls:\n%s%v", calls, err)
	}
}

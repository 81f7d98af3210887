package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// foreignIPAM writes an IPAM plugin that is in front of ours, and returns its folder and the file in which it notes its calls. ADD runs the
// commands of add.
func foreignIPAM(t *testing.T, add string) (folder, calls string) {
	t.Helper()
	folder = t.TempDir()
	calls = filepath.Join(folder, "calls")
	script := fmt.Sprintf("#!/bin/sh\n{ env | grep '^CNI_.*=.' | sort; cat; echo; } >>%s\n[ $CNI_COMMAND != ADD ] || { %s; }\n", calls, add)
	if err := os.WriteFile(filepath.Join(folder, "host-local"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return folder, calls
}

// noted returns the calls that a foreign plugin has noted since the last time.
func noted(t *testing.T, calls string) string {
	t.Helper()
	data, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(calls); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// note is what a foreign plugin notes of a call with an environment and a configuration.
func note(env []string, config string) string {
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return !strings.HasPrefix(kv, "CNI_") })
	slices.Sort(env)
	return strings.Join(env, "\n") + "\n" + config + "\n"
}

// foreignNetworks are networks of both plugins that ask for addresses, with a key that is nobody's.
var foreignNetworks = []string{
	config("ptp", "net", `"ipMasq":true,"unheard":["of"],"ipam":{"type":"host-local","and":"more"}`),
	bridgeConfig("net", `"isGateway":true,"ipMasq":true,"unheard":["of"],"ipam":{"type":"host-local","and":"more"}`),
}

// TestForeignIPAM passes every verb on to an IPAM plugin that is not ours: it is called as its caller was.
func TestForeignIPAM(t *testing.T) {
	for _, network := range foreignNetworks {
		a := &attachment{config: network}
		t.Run(a.plugin(), func(t *testing.T) {
			removeAtEnd(t, bridgeName)
			before := host.Snapshot(t)
			folder, calls := foreignIPAM(t, `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.99.0.9/24","gateway":"10.99.0.1"},{"address":"fd00:99::9/64","gateway":"fd00:99::1"}],
				"routes":[{"dst":"10.98.0.0/16","priority":9}],"dns":{"nameservers":["10.99.0.53"]}}'`)
			a := attach(t, network, "foreign")
			serve := func(verb cni.Verb, config string) string {
				t.Helper()
				env := append(host.Env(string(verb), a.id, a.netns, a.ifName, folder, host.Bin(t)), "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=p")
				if verb == cni.VerbGC || verb == cni.VerbStatus {
					env = replace(env, []string{"CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=", "CNI_ARGS="})
				}
				stdout, failure := execute(t, a.plugin(), env, config)
				if failure != nil {
					t.Fatalf("%s: %v", verb, failure)
				}
				if got, want := noted(t, calls), note(env, config); got != want {
					t.Errorf("%s: the IPAM plugin was given\n%s\nwant\n%s", verb, got, want)
				}
				return stdout
			}
			serve(cni.VerbStatus, network)
			a.prev = []byte(serve(cni.VerbAdd, network))
			for _, want := range []string{`"10.99.0.9/24"`, `"fd00:99::9/64"`, `"10.98.0.0/16"`, `"10.99.0.53"`} {
				if !strings.Contains(string(a.prev), want) {
					t.Errorf("the result lacks %s: %s", want, a.prev)
				}
			}
			host.Ping(t, a.netns, "10.99.0.1")
			host.Ping(t, "", "fd00:99::9")
			if !slices.ContainsFunc(host.Routes(t, a.netns, 4), func(r host.Route) bool { return r.Dst == "10.98.0.0/16" && r.Priority == 9 }) {
				t.Errorf("the route is not among %+v", host.Routes(t, a.netns, 4))
			}
			serve(cni.VerbCheck, a.withPrev(t))
			serve(cni.VerbGC, derive(t, network, "cni.dev/valid-attachments", valid(a)))
			serve(cni.VerbCheck, a.withPrev(t)) // GC has spared it
			serve(cni.VerbDel, a.withPrev(t))
			a.gone(t)
			host.Unchanged(t, before, stays(bridgeName)...)
		})
	}
}

// TestForeignIPAMFails: an IPAM plugin that was asked for an address and gave none is told to delete.
func TestForeignIPAMFails(t *testing.T) {
	for _, tt := range []struct {
		name, add string
		code      cni.Code
		want      string
	}{
		{"no address", `echo '{"cniVersion":"1.1.0"}'`, cni.CodeInvalidConfig, "returned no address"},
		{"an error", `echo '{"cniVersion":"1.1.0","code":11,"msg":"all is let"}'; exit 1`, cni.CodeTryAgain, "all is let"},
		{"no JSON", `echo all is let`, 0, "host-local"},
		{"silent failure", `exit 3`, 0, "host-local"},
	} {
		for _, network := range foreignNetworks {
			a := &attachment{config: network}
			t.Run(a.plugin()+" "+tt.name, func(t *testing.T) {
				removeAtEnd(t, bridgeName)
				before := host.Snapshot(t)
				folder, calls := foreignIPAM(t, tt.add)
				a := attach(t, network, "foreign")
				env := host.Env("ADD", a.id, a.netns, a.ifName, folder, host.Bin(t))
				_, failure := execute(t, a.plugin(), env, network)
				if failure == nil || !strings.Contains(failure.Msg, tt.want) || tt.code != 0 && failure.Code != tt.code {
					t.Errorf("ADD: %v, want code %d and %q", failure, tt.code, tt.want)
				}
				want := note(env, network) + note(replace(env, []string{"CNI_COMMAND=DEL"}), network)
				if got := noted(t, calls); got != want {
					t.Errorf("the IPAM plugin was given\n%s\nwant\n%s", got, want)
				}
				a.gone(t)
				host.Unchanged(t, before, stays(bridgeName)...)
			})
		}
	}
}

package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/test/host"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// web is a network as a runtime's users write one.
const web = `{"cniVersion":"1.0.0","name":"web","plugins":[
	{"type":"bridge","bridge":"web0","isGateway":true,"ipMasq":true,
	 "ipam":{"type":"host-local","ranges":[[{"subnet":"10.77.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
	{"type":"portmap","capabilities":{"portMappings":true}}]}`

// containerd's module go-cni, which is all that containerd knows of CNI, drives plumb's plugins.
func TestGoCNI(t *testing.T) {
	dir := t.TempDir()
	copyInto(t, dir, "testdata/gocni")
	outside(t, dir, "go", "mod", "init", "example.org/gocni")
	switched(t, dir)
	outside(t, dir, "go", "get", "github.com/containerd/go-cni@v1.1.14")
	outside(t, dir, "go", "build", "-o", "gocni", ".")
	builtOnOurs(t, filepath.Join(dir, "gocni"))

	internet := host.Internet(t)
	host.Run(t, "nft", "flush", "ruleset") // as it happens below
	before := host.Snapshot(t)
	config := t.TempDir()
	write(t, filepath.Join(config, "10-web.conflist"), web)
	ns := host.NetNS(t)
	call := func(verb string) (string, error) {
		return host.Try(filepath.Join(dir, "gocni"), verb, config, host.Bin(t), "c1", ns)
	}
	if _, err := call("status"); err != nil {
		t.Error(err)
	}
	out, err := call("add")
	if err != nil {
		t.Fatal(err)
	}
	var addresses map[string][]string
	if err := json.Unmarshal([]byte(out), &addresses); err != nil || len(addresses["eth0"]) != 1 {
		t.Fatalf("addresses %s, %v", out, err)
	}
	served(t, ns, internet, addresses["eth0"][0], 8080)
	if _, err := call("check"); err != nil {
		t.Error(err)
	}
	host.Run(t, "nft", "flush", "ruleset")
	if _, err := call("check"); err == nil {
		t.Error("CHECK finds nothing wrong when the port mapping is gone")
	}
	for range 2 { // removing what is removed is no error
		if _, err := call("remove"); err != nil {
			t.Error(err)
		}
	}
	host.Unchanged(t, before, host.SharedBridge("web0"), host.SharedNFT, host.SharedFiles, host.SharedForwarding)
	host.Run(t, "ip", "link", "del", "web0")
}

// The reference's plugins work when they are built on this module: with its skel, its types and its way to call IPAM.
func TestReferencePlugins(t *testing.T) {
	const plugins = "github.com/containernetworking/plugins"
	dir := module(t, plugins, host.ReferenceVersion)
	switched(t, dir)
	bin := t.TempDir()
	outside(t, dir, "go", "build", "-o", bin+"/", "./plugins/main/bridge", "./plugins/main/ptp", "./plugins/meta/portmap", "./plugins/ipam/host-local")
	builtOnOurs(t, filepath.Join(bin, "bridge"))

	t.Run("refusals", func(t *testing.T) { sameRefusals(t, host.Reference(t), bin) })
	internet := host.Internet(t)
	for name, config := range map[string]string{
		"bridge": web,
		"ptp": `{"cniVersion":"0.4.0","name":"web","plugins":[
			{"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","subnet":"10.78.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}},
			{"type":"portmap","capabilities":{"portMappings":true}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			list, err := libcni.NetworkConfFromBytes([]byte(config))
			if err != nil {
				t.Fatal(err)
			}
			networks := libcni.NewCNIConfig([]string{bin}, nil)
			ns := host.NetNS(t)
			links := len(host.Links(t, ""))
			rt := &libcni.RuntimeConf{
				ContainerID: "c1", NetNS: ns, IfName: "eth0",
				CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}}},
			}
			added, err := networks.AddNetworkList(t.Context(), list, rt)
			if err != nil {
				t.Fatal(err)
			}
			result, err := types100.GetResult(added)
			if err != nil || len(result.IPs) != 1 || added.Version() != list.CNIVersion {
				t.Fatalf("result %+v of version %s, %v", result, added.Version(), err)
			}
			served(t, ns, internet, result.IPs[0].Address.IP.String(), 8081)
			if err := networks.CheckNetworkList(t.Context(), list, rt); err != nil {
				t.Error(err)
			}
			// A plugin's error comes with its code.
			again := *rt
			again.NetNS = "/run/netns/nothing"
			if _, err := networks.AddNetworkList(t.Context(), list, &again); !errors.As(err, new(*types.Error)) {
				t.Errorf("ADD without a namespace: %v", err)
			}
			if err := networks.DelNetworkList(t.Context(), list, rt); err != nil {
				t.Error(err)
			}
			host.Try("ip", "link", "del", "web0") //nolint:errcheck // ptp makes none
			if left := host.Links(t, ""); len(left) != links {
				t.Errorf("links are left: %v", left)
			}
			if left, err := filepath.Glob("/var/lib/cni/networks/web/10.*"); err != nil || left != nil {
				t.Errorf("addresses are left: %v", left)
			}
			if rules := host.Run(t, "iptables-save"); strings.Contains(rules, "8081") || strings.Contains(rules, result.IPs[0].Address.IP.String()) {
				t.Errorf("rules are left:\n%s", rules)
			}
		})
	}
}

// sameRefusals makes mistakes in requests to one plugin that is built on the original and on this module. Both refuse them with the same code.
func sameRefusals(t *testing.T, theirs, ours string) {
	t.Helper()
	ns := host.NetNS(t)
	config := func(version, name string) string {
		return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"type":"bridge","bridge":"no0","ipam":{}}`, version, name)
	}
	good := config("1.1.0", "net")
	type request struct {
		verb, change, value, config string
	}
	requests := []request{
		{"", "", "", good}, {"VERSION", "", "", ""}, {"FROB", "", "", good}, // the first two are answered
		{"GC", "CNI_PATH", "", good}, {"STATUS", "CNI_PATH", "", good},
		{"CHECK", "", "", config("0.3.1", "net")}, {"GC", "", "", config("1.0.0", "net")}, {"STATUS", "", "", config("1.0.0", "net")},
	}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		for _, name := range []string{"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"} {
			requests = append(requests, request{verb, name, "", good})
		}
		for _, name := range []string{"", ".", "..", "a/b", "a:b", "a b", "1234567890123456"} {
			requests = append(requests, request{verb, "CNI_IFNAME", name, good})
		}
		requests = append(requests,
			request{verb, "CNI_CONTAINERID", "a%b", good}, request{verb, "", "", config("1.1.0", "a%b")}, request{verb, "", "", config("1.1.0", "")},
			request{verb, "", "", "{"}, request{verb, "", "", ""}, request{verb, "", "", config("7.0.0", "net")})
		if verb != "DEL" {
			requests = append(requests, request{verb, "CNI_NETNS", "", good})
		}
	}
	for _, r := range requests {
		var answers [2]string
		for i, bin := range []string{theirs, ours} {
			vars := map[string]string{
				"CNI_COMMAND": r.verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": ns, "CNI_IFNAME": "eth0", "CNI_PATH": bin,
			}
			if r.change != "" {
				vars[r.change] = r.value
			}
			env := []string{"PATH=" + os.Getenv("PATH")}
			for key, value := range vars {
				env = append(env, key+"="+value)
			}
			stdout, stderr, exit := host.Plugin(t, bin, "bridge", env, r.config)
			var failed types.Error
			if exit != 0 {
				if err := json.Unmarshal([]byte(stdout), &failed); err != nil || failed.Msg == "" {
					t.Errorf("%+v: %s answers %q", r, bin, stdout)
				}
				stdout, stderr = "", ""
			}
			answers[i] = fmt.Sprintf("exit %d, code %d %s%s", exit, failed.Code, stdout, about.ReplaceAllString(stderr, ""))
		}
		if answers[0] != answers[1] {
			t.Errorf("%+v: the original answers\n%sand ours\n%s", r, answers[0], answers[1])
		}
	}
	t.Logf("%d requests", len(requests))
}

// about is the first line of what a plugin says of itself: the versions there are stamped by the build.
var about = regexp.MustCompile(`(?m)\ACNI bridge plugin .*$`)

// served asks a container for everything that the network web promises.
func served(t *testing.T, ns, internet, address string, hostPort int) {
	t.Helper()
	host.Ping(t, "", address)
	host.Ping(t, ns, host.Internet4)
	host.Serve(t, ns, "tcp", address+":80")
	port := host.Uplink4 + ":" + strconv.Itoa(hostPort)
	if answer, err := host.Ask(t, internet, "tcp", port, ""); err != nil || answer.Server != ns {
		t.Errorf("port %s leads to %q: %v", port, answer.Server, err)
	}
}

// builtOnOurs fails the test when a program isn't linked with this module.
func builtOnOurs(t *testing.T, program string) {
	t.Helper()
	out, err := exec.Command("go", "version", "-m", program).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "github.com/plumb-cni/plumb\t") {
		t.Fatalf("%s is not built on plumb: %v\n%s", program, err, out)
	}
}

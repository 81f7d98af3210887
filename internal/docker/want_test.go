package docker

import (
	"reflect"
	"strings"
	"testing"

	"github.com/docker/go-connections/nat"
)

func TestWants(t *testing.T) {
	for name, c := range map[string]struct {
		c    Container
		want []Want
		err  string
	}{
		"no label":       {c: Container{Labels: map[string]string{"other": "x"}}},
		"empty":          {c: Container{Labels: map[string]string{LabelNetworks: " , "}}},
		"no label, host": {c: Container{Mode: "host"}},
		"two": {
			c:    Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a, b"}},
			want: []Want{{Network: "a", IfName: "eth0"}, {Network: "b", IfName: "eth1"}},
		},
		"names that are taken": {
			c:    Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a,b@eth0,c"}},
			want: []Want{{Network: "a", IfName: "eth1"}, {Network: "b", IfName: "eth0"}, {Network: "c", IfName: "eth2"}},
		},
		"beside Docker's": {
			c:    Container{Mode: "mine", Interfaces: 2, Bindings: nat.PortMap{"80/tcp": {{HostPort: "80"}}}, Labels: map[string]string{LabelNetworks: "a"}},
			want: []Want{{Network: "a", IfName: "eth2"}}, // and -p is Docker's
		},
		"addresses": {
			c:    Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a", LabelIP + "a": "10.0.0.1/24,fd00::1", LabelMAC + "a": "02:00:00:00:00:01"}},
			want: []Want{{Network: "a", IfName: "eth0", IPs: []string{"10.0.0.1/24", "fd00::1"}, MAC: "02:00:00:00:00:01"}},
		},
		"ports": {
			c: Container{Mode: "none", Bindings: nat.PortMap{"53/udp": {{HostIP: "127.0.0.1", HostPort: "5353"}}, "443/tcp": {{HostPort: "443"}, {HostPort: "444"}}},
				Labels: map[string]string{LabelNetworks: "a", LabelPorts: "8080-8081:80-81,[::1]:90:90/sctp"}},
			want: []Want{{Network: "a", IfName: "eth0", Ports: []Port{
				{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8081, ContainerPort: 81, Protocol: "tcp"},
				{HostIP: "::1", HostPort: 90, ContainerPort: 90, Protocol: "sctp"},
				{HostPort: 443, ContainerPort: 443, Protocol: "tcp"}, {HostPort: 444, ContainerPort: 443, Protocol: "tcp"},
				{HostIP: "127.0.0.1", HostPort: 5353, ContainerPort: 53, Protocol: "udp"},
			}}},
		},
		"twice":             {c: Container{Labels: map[string]string{LabelNetworks: "a,a@eth5"}}, err: "network a twice"},
		"interface twice":   {c: Container{Labels: map[string]string{LabelNetworks: "a@eth5,b@eth5"}}, err: "interface eth5 twice"},
		"a path":            {c: Container{Labels: map[string]string{LabelNetworks: "../a"}}, err: `invalid network name "../a"`},
		"empty interface":   {c: Container{Labels: map[string]string{LabelNetworks: "a@"}}, err: "no name of an interface"},
		"other's address":   {c: Container{Labels: map[string]string{LabelNetworks: "a", LabelIP + "b": "10.0.0.1"}}, err: `network "b" is not in plumb.networks`},
		"hardware address":  {c: Container{Labels: map[string]string{LabelNetworks: "a", LabelMAC + "a": "02:00:00:00:00:00:00:01"}}, err: "not a hardware address"},
		"a zone":            {c: Container{Labels: map[string]string{LabelNetworks: "a", LabelIP + "a": "fe80::1%x;K8S_POD_NAME=other"}}, err: "has no zone"},
		"mistyped":          {c: Container{Mode: "none", Labels: map[string]string{"plumb.network": "a", "other": "x"}}, err: "label plumb.network is none of plumb's"},
		"mistyped address":  {c: Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a", "plumb.ips.a": "10.0.0.1"}}, err: "label plumb.ips.a is none of plumb's"},
		"ports alone":       {c: Container{Labels: map[string]string{LabelPorts: "80:80"}}, err: "needs plumb.networks"},
		"range for one":     {c: Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a", LabelPorts: "80-90:80"}}, err: "nobody chooses one"},
		"port 0":            {c: Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a", LabelPorts: "0:80"}}, err: "nobody chooses one"},
		"not a port":        {c: Container{Mode: "none", Labels: map[string]string{LabelNetworks: "a", LabelPorts: "80:http"}}, err: "http"},
		"a host's networks": {c: Container{Mode: "host", Labels: map[string]string{LabelNetworks: "a"}}, err: "has the host's network"},
	} {
		got, err := c.c.Wants()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, c.want)
		}
	}
}

package together

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// A docker is an engine with one container on docker0, which has TCP port 80
// published as 9090, and UDP port 53 as 9053.
type docker struct {
	tool      string
	rules     string
	jumps     string
	container string // its namespace
}

// engine is Docker with a kind of iptables.
func engine(t *testing.T, kind string) *docker {
	return &docker{tool: "iptables-" + kind, rules: testdata(t, "docker.iptables"), jumps: testdata(t, "docker.jumps")}
}

func (d *docker) start(t *testing.T, _ *container) {
	d.container = host.NetNS(t)
	t.Cleanup(func() { host.Try("ip", "link", "del", "docker0") }) //nolint:errcheck // it is there
	host.Run(t, "ip", "link", "add", "docker0", "type", "bridge")
	host.Run(t, "ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
	host.Run(t, "ip", "link", "set", "docker0", "up")
	host.Run(t, "ip", "link", "add", "vethdocker", "master", "docker0", "up", "type", "veth", "peer", "name", "eth0", "netns", d.container)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"}, {"link", "set", "eth0", "up"}, {"addr", "add", "172.17.0.2/16", "dev", "eth0"}, {"route", "add", "default", "via", "172.17.0.1"},
	} {
		host.RunIn(t, d.container, "ip", args...)
	}
	host.Serve(t, d.container, "tcp4", ":80")
	host.Serve(t, d.container, "udp4", "172.17.0.2:53")
	host.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	d.lay(t)
	host.Run(t, d.tool, "-P", "FORWARD", "DROP")
}

func (d *docker) shutsOut(backend string) bool {
	return (&policy{[]string{d.tool}}).shutsOut(backend)
}

// lay is what dockerd does when it starts: its chains anew, and the jumps to
// them first.
func (d *docker) lay(t *testing.T) {
	jumps(t, d.tool, d.jumps, false)
	restore(t, d.tool, d.rules, "--noflush")
	host.Try(d.tool, "-N", "DOCKER-USER") //nolint:errcheck // which stays if it is there
	if _, err := host.Try(d.tool, "-C", "DOCKER-USER", "-j", "RETURN"); err != nil {
		host.Run(t, d.tool, "-A", "DOCKER-USER", "-j", "RETURN")
	}
	jumps(t, d.tool, d.jumps, true)
}

func (d *docker) ways(ours, _ *container) []way {
	return []way{
		{"a port of Docker's from outside", ours.outside, "tcp", host.Uplink4 + ":9090", d.container, "198.51.100.1"},
		{"a port of Docker's from outside", ours.outside, "udp", host.Uplink4 + ":9053", d.container, "198.51.100.1"},
		{"a port of Docker's from the host", "", "tcp", host.Uplink4 + ":9090", d.container, ""},
		{"a port of Docker's from ours", ours.attachment.NetNS, "tcp", host.Uplink4 + ":9090", d.container, ""},
		{"a port of Docker's from ours", ours.attachment.NetNS, "udp", host.Uplink4 + ":9053", d.container, ""},
		{"our port from Docker's", d.container, "tcp", host.Uplink4 + ":8080", ours.attachment.NetNS, ""},
		{"our port from Docker's", d.container, "udp", host.Uplink4 + ":8053", ours.attachment.NetNS, ""},
		{"Docker's way out", d.container, "tcp", host.Internet4 + ":7000", ours.outside, host.Uplink4},
		{"Docker's way out", d.container, "udp", host.Internet4 + ":7000", ours.outside, host.Uplink4},
	}
}

func (d *docker) events() []event {
	return []event{
		{"a restart of dockerd", d.lay},
		{"iptables-save and iptables-restore", func(t *testing.T) { reload(t, d.tool) }},
	}
}

// Ports of Docker's containers and of ours are open, to each other too,
// though Docker drops what is forwarded.
func TestDocker(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			eachWay(t, func(t *testing.T, backend string, before bool) { share(t, backend, before, engine(t, kind)) })
		})
	}
}

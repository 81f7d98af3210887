package bench

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// many is how many mappings there are where there are many.
const many = 10000

// How many times longer a new mapping may take where there are many than where
// there are few, and the first packet of a connection.
const (
	newTarget    = 1.5
	packetTarget = 1.2
)

// A mapped is a container that portmap alone is called for.
type mapped struct {
	contender
	netns string
}

// Where the container and the host are on the wire between them.
const (
	mappedAddr = "10.81.0.2"
	newAddr    = "10.81.0.3" // of the one whose mapping is new
	mappedHost = "10.81.0.1"
)

// timePorts measures portmap: a range of many ports, and what a new mapping and
// the first packet to it cost beside many others. The reference takes part with
// nftables; with iptables it starts some thirty thousand processes for them.
func timePorts(t *testing.T, list []contender, rounds int) (all []timing) {
	t.Helper()
	netns := host.NetNS(t)
	for _, args := range []string{
		"link add bench-ports type veth peer name eth0 netns " + filepath.Base(netns),
		"addr add " + mappedHost + "/24 dev bench-ports", "link set bench-ports up",
		"-n " + filepath.Base(netns) + " addr add " + mappedAddr + "/24 dev eth0", "-n " + filepath.Base(netns) + " addr add " + newAddr + "/24 dev eth0", "-n " + filepath.Base(netns) + " link set eth0 up",
		"-n " + filepath.Base(netns) + " route add default via " + mappedHost,
	} {
		host.Run(t, "ip", strings.Fields(args)...)
	}
	t.Cleanup(func() { host.Run(t, "ip", "link", "del", "bench-ports") })
	host.Serve(t, netns, "tcp4", ":80")

	var who []*mapped
	for _, c := range named(list, execOurs, refNFT) {
		who = append(who, &mapped{c, netns})
	}
	ranges := make([]series, len(who))
	for range min(rounds, enough) {
		for i, m := range who {
			ranges[i] = append(ranges[i], m.call(t, "ADD", "range", ports(20000, 20000)))
			m.call(t, "DEL", "range", ports(20000, 20000))
		}
	}
	most := compare("portmap, a range of 10,000 ports", "ADD", []string{who[0].name, who[1].name}, ranges)
	most.faster(refNFT, nil)
	all = most
	for _, m := range who {
		all = append(all, m.scale(t, rounds)...)
	}
	return all
}

// scale measures beside ten mappings, and then beside many.
func (m *mapped) scale(t *testing.T, rounds int) []timing {
	t.Helper()
	var adds, connects [2]series
	for i, present := range []string{ports(20000, 30000)[:tenth], ports(20000, 30000)} {
		present = strings.TrimSuffix(present, ",")
		m.call(t, "ADD", "present", present)
		for range 2 + rounds {
			adds[i] = append(adds[i], m.call(t, "ADD", "new", mapping(8080, 80)))
			for range 5 {
				connects[i] = append(connects[i], connect(t))
			}
			m.call(t, "DEL", "new", mapping(8080, 80))
		}
		adds[i], connects[i] = adds[i][2:], connects[i][10:]
		m.call(t, "DEL", "present", present)
	}
	beside := []string{"beside 10", "beside 10,000"}
	add, packet := compare("portmap, a new mapping: "+m.name, "ADD", beside, adds[:]), compare("portmap, the first packet: "+m.name, "connect", beside, connects[:])
	targets := [2]float64{newTarget, packetTarget}
	if m.name != execOurs {
		targets = [2]float64{}
	}
	add.longer(beside[0], beside[1], targets[0])
	packet.longer(beside[0], beside[1], targets[1])
	return append(add, packet...)
}

// tenth is the length of the first ten mappings of ports(20000, 30000).
var tenth = 10 * (len(mapping(20000, 30000)) + 1)

func mapping(from, to int) string {
	return fmt.Sprintf(`{"hostPort":%d,"containerPort":%d,"protocol":"tcp"}`, from, to)
}

// ports are the mappings of many ports that follow each other.
func ports(from, to int) string {
	list := make([]string, many)
	for i := range list {
		list[i] = mapping(from+i, to+i)
	}
	return strings.Join(list, ",")
}

func (m *mapped) call(t *testing.T, verb, id, list string) time.Duration {
	t.Helper()
	backend, addr := "", mappedAddr
	if id == "new" {
		addr = newAddr
	}
	if m.backend != "" {
		backend = fmt.Sprintf(`"backend":%q,`, m.backend)
	}
	_, took := call{
		program: filepath.Join(m.bin, "portmap"),
		env:     host.Env(verb, id, m.netns, "eth0", m.bin),
		stdin: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench-ports","type":"portmap",%s"runtimeConfig":{"portMappings":[%s]},
			"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"bench-ports"},{"name":"eth0","sandbox":%q}],"ips":[{"address":"%s/24","interface":1}]}}`,
			backend, list, m.netns, addr),
	}.run(t)
	return took
}

// connect returns how long it takes until the container has accepted a
// connection.
func connect(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	c, err := net.DialTimeout("tcp4", mappedHost+":8080", 2*time.Second)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	c.Close() //nolint:errcheck // nothing was written
	return took
}

package hostlocal

import (
	"os"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// readResolvConf reads a resolver configuration, see resolv.conf(5). Lines add
// up; of several domains the last counts. What CNI has no place for, such as
// sortlist, is left out.
func readResolvConf(path string) (cni.DNS, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return cni.DNS{}, cni.Errorf(cni.CodeInvalidConfig, "ipam.resolvConf: %w", err)
	}
	return parseResolvConf(string(data)), nil
}

func parseResolvConf(text string) (dns cni.DNS) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue // a comment's # or ; needs no case of its own: no keyword has one
		}
		switch f[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, f[1])
		case "domain":
			dns.Domain = f[1]
		case "search":
			dns.Search = append(dns.Search, f[1:]...)
		case "options":
			dns.Options = append(dns.Options, f[1:]...)
		}
	}
	return dns
}

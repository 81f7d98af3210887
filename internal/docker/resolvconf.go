package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// mergeDNS adds what one network says to what those before it said.
func mergeDNS(dns, more cni.DNS) cni.DNS {
	add := func(to *[]string, values ...string) {
		for _, v := range values {
			if v != "" && !slices.Contains(*to, v) {
				*to = append(*to, v)
			}
		}
	}
	add(&dns.Nameservers, more.Nameservers...)
	add(&dns.Search, append([]string{more.Domain}, more.Search...)...)
	add(&dns.Options, more.Options...)
	return dns
}

// writeDNS puts what the networks say of DNS into the container's resolv.conf.
// What docker run --dns, --dns-search and --dns-option say goes before it, and
// what nobody says stays as the engine wrote it.
//
// The file is written in place: it may be mounted in the container already. The
// engine makes it anew at each start.
func (c *Container) writeDNS(dns cni.DNS) error {
	if dns.IsZero() {
		return nil
	}
	data, err := os.ReadFile(c.ResolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // docker run -v FILE:/etc/resolv.conf
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	said := map[string][]string{}
	if len(c.DNS.Nameservers) == 0 {
		said["nameserver"] = dns.Nameservers
	}
	if len(c.DNS.Search) == 0 {
		said["search"] = dns.Search
	}
	if len(c.DNS.Options) == 0 {
		said["options"] = dns.Options
	}
	if err := os.WriteFile(c.ResolvConf, []byte(resolvConf(string(data), said)), 0o644); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	return nil
}

// resolvConf returns the text of a resolv.conf(5) with other values for the
// keywords that there are any for.
func resolvConf(old string, values map[string][]string) string {
	var b strings.Builder
	for line := range strings.Lines(old) {
		keyword := ""
		if fields := strings.Fields(line); len(fields) > 0 {
			keyword = fields[0]
		}
		if keyword == "domain" { // the last of both counts
			keyword = "search"
		}
		if len(values[keyword]) == 0 {
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	for _, server := range values["nameserver"] {
		b.WriteString("nameserver " + server + "\n")
	}
	for _, keyword := range []string{"search", "options"} {
		if len(values[keyword]) > 0 {
			b.WriteString(keyword + " " + strings.Join(values[keyword], " ") + "\n")
		}
	}
	return b.String()
}

package hostlocal

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/addrstore"
	"github.com/plumb-cni/plumb/ipam"
	"github.com/plumb-cni/plumb/plugin"
)

// DefaultDataDir is where addresses are kept unless the key dataDir says
// otherwise.
const DefaultDataDir = addrstore.DefaultDir

// The section "ipam" of a configuration is read in parts: DEL and GC need one of
// them alone, and before there were lists of ranges, one could stand in it.
type (
	dataDirSection struct {
		DataDir string `json:"dataDir" schema:"is=path"`
	}
	section struct {
		Ranges [][]rangeJSON `json:"ranges" schema:"each=subnet"`
		ipam.Routed
		ResolvConf string `json:"resolvConf" schema:"is=path"`

		// StatusOnExhaustion makes STATUS fail while a range set has no
		// free address.
		StatusOnExhaustion bool `json:"statusOnExhaustion"`
	}
)

// A runtimeSection is what the caller may send besides addresses.
type runtimeSection struct {
	IPRanges [][]rangeJSON `json:"ipRanges"`
}

// Config implements plugin.IPAM.
func (*hostLocal) Config() reflect.Type {
	return reflect.TypeFor[struct {
		IPAM struct {
			dataDirSection
			rangeJSON
			section
		} `json:"ipam"`
		RuntimeConfig runtimeSection `json:"runtimeConfig"`
		ipam.RequestKeys
	}]()
}

// A config is what ADD and CHECK need to know.
type config struct {
	dataDir    string
	sets       []rangeSet // an address is given from each
	requests   []*request // the address asked for from each; nil if any will do
	routes     []cni.Route
	resolvConf string // path, or empty

	statusOnExhaustion bool
}

// A request is an address that the caller asks for.
type request struct {
	ipam.Request
	addr netip.Addr
}

// parseConfig decodes and checks the configuration and the arguments.
func parseConfig(r *plugin.Request) (*config, error) {
	if err := r.Args.Check(); err != nil {
		return nil, err
	}
	dataDir, err := parseDataDir(r)
	if err != nil {
		return nil, err
	}
	var section section
	var single rangeJSON // before there were lists of ranges, one could be here
	if err := ipam.Decode(r.Config.IPAM.Raw, &single, "ipam"); err != nil {
		return nil, err
	}
	if err := ipam.Decode(r.Config.IPAM.Raw, &section, "ipam"); err != nil {
		return nil, err
	}
	c := &config{dataDir: dataDir, resolvConf: section.ResolvConf, statusOnExhaustion: section.StatusOnExhaustion}
	if c.resolvConf != "" && !filepath.IsAbs(c.resolvConf) {
		return nil, ipam.Invalid("ipam.resolvConf", "", "%q is not an absolute path", c.resolvConf)
	}
	if c.routes, err = section.DecodeRoutes(); err != nil {
		return nil, err
	}

	// What the caller sends comes first. The number of a set is the number of
	// its last_reserved_ip file, so the order is the reference's.
	var runtime runtimeSection
	if err := ipam.Decode(r.Config.RuntimeConfig, &runtime, "runtimeConfig"); err != nil {
		return nil, err
	}
	var keys []string
	add := func(key string, set rangeSet, err error) error {
		if err != nil {
			return err
		}
		if set.size() == 0 {
			return ipam.Invalid(key, "widen it", "%s has nothing to give: gateways, network and broadcast addresses never are", set)
		}
		for i, other := range c.sets {
			if a, b, ok := other.overlap(set); ok {
				return ipam.Invalid(key, "an address can be given only once", "%s overlaps with %s of %s", b, a, keys[i])
			}
		}
		c.sets, keys = append(c.sets, set), append(keys, key)
		return nil
	}
	for i, ranges := range runtime.IPRanges {
		key := fmt.Sprintf("runtimeConfig.ipRanges[%d]", i)
		set, err := parseSet(key, ranges)
		if err := add(key, set, err); err != nil {
			return nil, err
		}
	}
	if single.Subnet != "" {
		only, err := single.parse("ipam")
		if err := add("ipam.subnet", rangeSet{only}, err); err != nil {
			return nil, err
		}
	}
	for i, ranges := range section.Ranges {
		key := fmt.Sprintf("ipam.ranges[%d]", i)
		set, err := parseSet(key, ranges)
		if err := add(key, set, err); err != nil {
			return nil, err
		}
	}
	if len(c.sets) == 0 {
		return nil, ipam.Invalid("ipam.ranges", `such as "ranges": [[{"subnet": "10.0.0.0/24"}]]`, "no range to allocate from")
	}
	var starts []netip.Addr
	for _, set := range c.sets {
		starts = append(starts, set[0].start)
	}
	if err := ipam.CheckFamilies(r.Config.CNIVersion, starts, "ipam.ranges"); err != nil {
		return nil, err
	}
	return c, c.assign(r)
}

// parseDataDir returns the folder of the networks' records. It is all that has
// to be right in a configuration for DEL and GC.
func parseDataDir(r *plugin.Request) (string, error) {
	var section dataDirSection
	if err := cni.ValidateName(r.Config.Name); err != nil {
		return "", err // it is about to become a path
	}
	if err := ipam.Decode(r.Config.IPAM.Raw, &section, "ipam"); err != nil {
		return "", err
	}
	if section.DataDir == "" {
		return DefaultDataDir, nil
	}
	if !filepath.IsAbs(section.DataDir) {
		return "", ipam.Invalid("ipam.dataDir", "", "%q is not an absolute path", section.DataDir)
	}
	return section.DataDir, nil
}

// assign distributes the addresses that are asked for over the range sets.
func (c *config) assign(r *plugin.Request) error {
	c.requests = make([]*request, len(c.sets))
	all, err := ipam.DecodeRequests(r)
	if err != nil {
		return err
	}
	seen := make(map[netip.Addr]bool)
	for _, list := range [][]ipam.Request{all.Args, all.Config, all.RuntimeConfig} {
		for _, q := range list {
			a, err := parseRequest(q)
			if err != nil {
				return err
			}
			if seen[a] {
				continue // a runtime may say it in more than one way
			}
			seen[a] = true
			if err := c.assignTo(&request{q, a}); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseRequest parses an address that may have a prefix, which doesn't count:
// the subnet's is used.
func parseRequest(q ipam.Request) (netip.Addr, error) {
	a, err := cni.ParseAddr(q.Value)
	if p, prefixErr := cni.ParsePrefix(q.Value); prefixErr == nil {
		return p.Addr(), nil
	}
	if err != nil {
		return a, q.Invalid("", "%w", err)
	}
	return a, nil
}

func (c *config) assignTo(q *request) error {
	for i, set := range c.sets {
		if set.find(q.addr) < 0 {
			continue
		}
		if as := set.reserved(q.addr); as != "" {
			return q.Invalid("", "%s is the %s of its subnet", q.addr, as)
		}
		if other := c.requests[i]; other != nil {
			return q.Invalid("each range set gives one address", "%s is of the same range set as %s of %s", q.addr, other.addr, other.Key)
		}
		c.requests[i] = q
		return nil
	}
	var sets string
	for i, set := range c.sets {
		if i > 0 {
			sets += "; "
		}
		sets += set.String()
	}
	return q.Invalid("", "%s is in none of the ranges %s", q.addr, sets)
}

package bandwidth

import (
	"math"
	"net/netip"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
)

// A Config holds the keys of a bandwidth configuration. Its own limits, if it
// has any, come before those of the runtime.
type Config struct {
	*Limits

	RuntimeConfig struct {
		Bandwidth *Limits `json:"bandwidth"`
	} `json:"runtimeConfig"`
}

// Limits are what a container may send and receive.
type Limits struct {
	_ struct{} `schema:"exclude=shapedSubnets,unshapedSubnets"`

	// IngressRate and EgressRate are what arrives at the container and what
	// it sends, in bits a second; 0 is no limit.
	IngressRate uint64 `json:"ingressRate" schema:"min=8"`
	EgressRate  uint64 `json:"egressRate" schema:"min=8"`

	// IngressBurst and EgressBurst are how many bits pass at once after a
	// pause. 0 and 4294967295 derive it from the rate.
	IngressBurst uint64 `json:"ingressBurst"`
	EgressBurst  uint64 `json:"egressBurst"`

	// UnshapedSubnets are the other ends that no limit is for.
	UnshapedSubnets []string `json:"unshapedSubnets" schema:"is=subnet"`

	// ShapedSubnets are the only other ends that the limits are for.
	ShapedSubnets []string `json:"shapedSubnets" schema:"is=subnet"`
}

// limits returns those that count, without any if there are none.
func (c *Config) limits() Limits {
	switch {
	case c.Limits != nil:
		return *c.Limits
	case c.RuntimeConfig.Bandwidth != nil:
		return *c.RuntimeConfig.Bandwidth
	}
	return Limits{}
}

// noBurst is the runtimes' word for no burst, 2^32-1.
const noBurst = math.MaxUint32

// burstBytes returns a burst in bytes, 0 for none.
func burstBytes(bits uint64) uint64 {
	if bits == noBurst {
		return 0
	}
	return bits / 8
}

func validate(c *Config, _ *plugin.Request) error {
	l := c.limits()
	for _, x := range []struct {
		direction   string
		rate, burst uint64
	}{{"ingress", l.IngressRate, l.IngressBurst}, {"egress", l.EgressRate, l.EgressBurst}} {
		switch {
		case x.rate == 0 && burstBytes(x.burst) != 0:
			return cni.Errorf(cni.CodeInvalidConfig, "%sBurst is set and %sRate is not; set both, or the rate alone", x.direction, x.direction)
		case x.rate != 0 && x.rate < 8:
			return cni.Errorf(cni.CodeInvalidConfig, "%sRate %d is less than a byte a second; the unit is bits a second", x.direction, x.rate)
		case x.burst/8 > math.MaxUint32:
			return cni.Errorf(cni.CodeInvalidConfig, "%sBurst %d is more than the kernel can count, 4 GiB; the unit is bits", x.direction, x.burst)
		}
	}
	if len(l.ShapedSubnets) > 0 && len(l.UnshapedSubnets) > 0 {
		return cni.Errorf(cni.CodeInvalidConfig, "shapedSubnets and unshapedSubnets exclude each other; set one of them")
	}
	if _, err := subnets("unshapedSubnets", l.UnshapedSubnets); err != nil {
		return err
	}
	_, err := subnets("shapedSubnets", l.ShapedSubnets)
	return err
}

func subnets(key string, list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return nil, cni.Errorf(cni.CodeInvalidConfig, `%s: %q is not a subnet, which looks like "10.1.0.0/16" or "fd00:1::/64"`, key, s)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

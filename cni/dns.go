package cni

// DNS is a resolver configuration. It has the same form in configurations and
// in results of every version (CONVENTIONS.md, SPEC section 5).
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"` // addresses, most preferred first
	Domain      string   `json:"domain,omitempty"`      // local domain for short names
	Search      []string `json:"search,omitempty"`      // search domains, most preferred first
	Options     []string `json:"options,omitempty"`     // as in resolv.conf(5)
}

// dnsJSON is the structure of a DNS. That has no method for it, which who embeds
// it would inherit.
type dnsJSON DNS

func (d *dnsJSON) fields() []field {
	return []field{
		{key: "nameservers", value: &d.Nameservers},
		{key: "domain", value: &d.Domain},
		{key: "search", value: &d.Search},
		{key: "options", value: &d.Options},
	}
}

// IsZero reports whether d says nothing.
func (d DNS) IsZero() bool {
	return len(d.Nameservers) == 0 && d.Domain == "" && len(d.Search) == 0 && len(d.Options) == 0
}

// clone returns a deep copy of d in which empty lists are nil.
func (d DNS) clone() DNS {
	own := func(s []string) []string { return append([]string(nil), s...) }
	return DNS{own(d.Nameservers), d.Domain, own(d.Search), own(d.Options)}
}

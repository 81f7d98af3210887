package types

import "slices"

// DNS is a resolver configuration.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"` // addresses, most preferred first
	Domain      string   `json:"domain,omitempty"`      // local domain for short names
	Search      []string `json:"search,omitempty"`      // search domains, most preferred first
	Options     []string `json:"options,omitempty"`     // as in resolv.conf(5)
}

// IsEmpty reports whether d says nothing.
func (d *DNS) IsEmpty() bool {
	return len(d.Nameservers) == 0 && d.Domain == "" && len(d.Search) == 0 && len(d.Options) == 0
}

// Copy returns a deep copy of d. The copy of nil is nil.
func (d *DNS) Copy() *DNS {
	if d == nil {
		return nil
	}
	return &DNS{slices.Clone(d.Nameservers), d.Domain, slices.Clone(d.Search), slices.Clone(d.Options)}
}

package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/plumb-cni/plumb/state/dnsname"
)

// A table is the entries, by all that they are looked up by. A change costs the
// same however many there are.
type table struct {
	mu         sync.RWMutex
	entries    map[string]*dnsname.Entry   // by file
	containers map[string][]*dnsname.Entry // by the container's ID
	addresses  map[netip.Addr][]*dnsname.Entry
	networks   map[string]*network
	servers    map[netip.Addr]count[string] // the networks that are served at an address
}

// A count tells how many entries have something.
type count[K comparable] map[K]int

func (c count[K]) add(k K, n int) {
	if c[k] += n; c[k] == 0 {
		delete(c, k)
	}
}

// A network is the entries of one.
type network struct {
	entries  int
	names    map[string][]*dnsname.Entry // short and full
	domains  count[string]
	shared   count[string] // those of domains with multiDomain
	prefixes count[netip.Prefix]
}

func newTable() *table {
	return &table{
		entries:    make(map[string]*dnsname.Entry),
		containers: make(map[string][]*dnsname.Entry),
		addresses:  make(map[netip.Addr][]*dnsname.Entry),
		networks:   make(map[string]*network),
		servers:    make(map[netip.Addr]count[string]),
	}
}

func (t *table) empty() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries) == 0
}

// entry returns the entry of a file, or nil.
func (t *table) entry(file string) *dnsname.Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[file]
}

// serves reports whether an entry has containers ask at an address.
func (t *table) serves(addr netip.Addr) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.servers[addr]) > 0
}

// set makes an entry be a file's in the place of that before; nil for none.
func (t *table) set(file string, e *dnsname.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.entries[file]; old != nil {
		t.count(old, -1)
		delete(t.entries, file)
	}
	if e != nil {
		t.count(e, 1)
		t.entries[file] = e
	}
}

// count adds an entry to what it is looked up by, or with -1 removes it.
func (t *table) count(e *dnsname.Entry, n int) {
	enlist(t.containers, e.Owner.ContainerID, e, n)
	in := t.networks[e.Owner.Network]
	if in == nil {
		in = &network{
			names: make(map[string][]*dnsname.Entry), domains: make(count[string]), shared: make(count[string]), prefixes: make(count[netip.Prefix]),
		}
		t.networks[e.Owner.Network] = in
	}
	for _, name := range e.Names {
		enlist(in.names, name, e, n)
		enlist(in.names, name+"."+e.Domain, e, n)
	}
	in.domains.add(e.Domain, n)
	if e.MultiDomain {
		in.shared.add(e.Domain, n)
	}
	for _, p := range e.Addresses {
		enlist(t.addresses, p.Addr(), e, n)
		in.prefixes.add(p.Masked(), n)
	}
	for _, addr := range e.Servers {
		if t.servers[addr] == nil {
			t.servers[addr] = make(count[string])
		}
		t.servers[addr].add(e.Owner.Network, n)
		if len(t.servers[addr]) == 0 {
			delete(t.servers, addr)
		}
	}
	if in.entries += n; in.entries == 0 {
		delete(t.networks, e.Owner.Network)
	}
}

// enlist adds an entry to those of a key, or with -1 removes it. Lists are short:
// but for a name that many containers have as an alias.
func enlist[K comparable](m map[K][]*dnsname.Entry, key K, e *dnsname.Entry, n int) {
	if n > 0 {
		m[key] = append(m[key], e)
		return
	}
	if m[key] = slices.DeleteFunc(m[key], func(o *dnsname.Entry) bool { return o == e }); len(m[key]) == 0 {
		delete(m, key)
	}
}

// A view is what one who asks may know.
type view struct {
	table    *table
	client   string // a container by its ID; those without a name of a network are one, and so is the host
	networks []string
	shared   bool // also the names that networks share with each other
	remote   []netip.AddrPort
}

// view returns what a source that asks at a server may know: a container all of
// its networks, the host and containers without a name those that are served
// there, and anybody else nothing.
func (t *table) view(server, source netip.Addr) (v view, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v.table = t
	if e := t.holder(source, server); e != nil {
		for _, of := range t.containers[e.Owner.ContainerID] {
			v.add(of)
		}
		v.client, v.remote = e.Owner.ContainerID, e.Remote
		return v, true
	}
	local := len(t.servers[source]) > 0 || source.IsLoopback()
	if !local {
		v.client = server.String()
	}
	for name := range t.servers[server] {
		in := t.networks[name]
		if local || in.holds(source) {
			v.networks = append(v.networks, name)
			v.shared = v.shared || len(in.shared) > 0
			for _, es := range in.names { // any entry's: they are the network's
				v.remote = es[0].Remote
				break
			}
		}
	}
	return v, v.networks != nil
}

func (v *view) add(e *dnsname.Entry) {
	v.shared = v.shared || e.MultiDomain
	if !slices.Contains(v.networks, e.Owner.Network) {
		v.networks = append(v.networks, e.Owner.Network)
	}
}

// holder returns the entry of who has an address: of several, which are on
// networks with the same subnet, that of the server's network, and else the last.
func (t *table) holder(addr, server netip.Addr) *dnsname.Entry {
	var holder *dnsname.Entry
	for _, e := range t.addresses[addr] {
		if holder == nil || !slices.Contains(holder.Servers, server) || slices.Contains(e.Servers, server) {
			holder = e
		}
	}
	return holder
}

func (n *network) holds(addr netip.Addr) bool {
	for p := range n.prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// below reports whether a name is a domain or in it.
func below(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}

// A finding is what a view knows of a name or an address.
type finding struct {
	entries []*dnsname.Entry

	// zone is the domain that answers for it, also if there are no entries;
	// empty for a short name, and for what others are to be asked.
	zone string

	// known tells that nobody else is to be asked.
	known bool
}

// lookup finds a name, in lower case and without a dot at its end.
func (v *view) lookup(name string) (f finding) {
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	search := func(in *network, domains count[string], full bool) {
		zone := ""
		for domain := range domains {
			if below(name, domain) && len(domain) > len(zone) {
				zone = domain
			}
		}
		if zone != "" && len(zone) > len(f.zone) {
			f.zone = zone
		}
		if zone != "" || !full {
			f.entries = append(f.entries, in.names[name]...)
		}
	}
	for _, n := range v.networks {
		if in := v.table.networks[n]; in != nil {
			search(in, in.domains, false)
		}
	}
	if v.shared {
		for n, in := range v.table.networks {
			if !slices.Contains(v.networks, n) {
				search(in, in.shared, true)
			}
		}
	}
	f.known = f.entries != nil || f.zone != ""
	return f
}

// reverse finds an address.
func (v *view) reverse(addr netip.Addr) (f finding) {
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	for _, e := range v.table.addresses[addr] {
		if slices.Contains(v.networks, e.Owner.Network) {
			f.entries = append(f.entries, e)
		}
	}
	for _, n := range v.networks {
		if in := v.table.networks[n]; in != nil && in.holds(addr) {
			f.known = true
		}
	}
	return f
}

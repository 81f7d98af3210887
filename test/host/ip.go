package host

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Link is what `ip -d link` says of one interface. Data holds info_data of its kind (a bridge's settings, say), Port those of the
// port that it is of its master.
type Link struct {
	Index       int            `json:"ifindex"`
	Name        string         `json:"ifname"`
	Kind        string         `json:"-"` // veth, bridge ...; "" for hardware and lo
	MAC         string         `json:"address"`
	MTU         int            `json:"mtu"`
	Flags       []string       `json:"flags"`
	State       string         `json:"operstate"`
	Master      string         `json:"master"`
	Alias       string         `json:"ifalias"`
	Group       string         `json:"group"`
	Parent      string         `json:"link"`       // peer of a veth, lower device of a macvlan, by name where it is in the same namespace
	ParentIndex int            `json:"link_index"` // and by index where it is in another
	Promiscuity int            `json:"promiscuity"`
	AllMulti    int            `json:"allmulti"`
	AddrGenMode string         `json:"inet6_addr_gen_mode"`
	TxQLen      int            `json:"txqlen"`
	Data        map[string]any `json:"-"`
	Port        map[string]any `json:"-"`
	Info        struct {
		Kind string         `json:"info_kind"`
		Data map[string]any `json:"info_data"`
		Port map[string]any `json:"info_slave_data"`
	} `json:"linkinfo"`
}

// Up tells whether the link is administratively up.
func (l Link) Up() bool { return slices.Contains(l.Flags, "UP") }

// Addr is one address of an interface. Prefix keeps the host bits.
type Addr struct {
	Dev       string
	Prefix    netip.Prefix
	Peer      string
	Scope     string
	Tentative bool
	NoDAD     bool
}

// Route is one route of a listing. Dst is "default" for the default route. Via is the gateway of the other family, if it is one of that.
type Route struct {
	Type     string   `json:"type"`
	Dst      string   `json:"dst"`
	Gateway  string   `json:"gateway"`
	Dev      string   `json:"dev"`
	Table    string   `json:"table"`
	Protocol string   `json:"protocol"`
	Scope    string   `json:"scope"`
	PrefSrc  string   `json:"prefsrc"`
	Priority int      `json:"metric"`
	Flags    []string `json:"flags"`
	Via      struct {
		Family string `json:"family"`
		Host   string `json:"host"`
	} `json:"via"`
	Metrics []struct {
		MTU    int `json:"mtu"`
		AdvMSS int `json:"advmss"`
	} `json:"metrics"`
}

// Rule is one routing policy rule.
type Rule struct {
	Priority int    `json:"priority"`
	Src      string `json:"src"`
	SrcLen   int    `json:"srclen"`
	Dst      string `json:"dst"`
	IIF      string `json:"iif"`
	OIF      string `json:"oif"`
	FwMark   string `json:"fwmark"`
	Table    string `json:"table"`
}

// ipArgs returns the arguments that make ip look at ns.
func ipArgs(ns string, args ...string) []string {
	if ns != "" {
		args = append([]string{"-n", filepath.Base(nsPath(ns))}, args...)
	}
	return append([]string{"-j", "-d"}, args...)
}

// Links returns the interfaces of a namespace by name. ns is a name or path below /run/netns, "" the host.
func Links(t testing.TB, ns string) map[string]Link {
	t.Helper()
	var list []Link
	JSON(t, &list, "ip", ipArgs(ns, "link")...)
	links := make(map[string]Link, len(list))
	for _, l := range list {
		l.Kind, l.Data, l.Port = l.Info.Kind, l.Info.Data, l.Info.Port
		links[l.Name] = l
	}
	return links
}

// Addrs returns the addresses of all interfaces of a namespace, in the order of the listing.
func Addrs(t testing.TB, ns string) []Addr {
	t.Helper()
	var list []struct {
		Name  string `json:"ifname"`
		Addrs []struct {
			Local     netip.Addr `json:"local"`
			Peer      string     `json:"address"`
			Len       int        `json:"prefixlen"`
			Scope     string     `json:"scope"`
			Tentative bool       `json:"tentative"`
			NoDAD     bool       `json:"nodad"`
		} `json:"addr_info"`
	}
	JSON(t, &list, "ip", ipArgs(ns, "addr")...)
	var addrs []Addr
	for _, l := range list {
		for _, a := range l.Addrs {
			if !a.Local.IsValid() {
				continue // ip lists {} for an interface without addresses
			}
			addrs = append(addrs, Addr{l.Name, netip.PrefixFrom(a.Local, a.Len), a.Peer, a.Scope, a.Tentative, a.NoDAD})
		}
	}
	return addrs
}

// Settle waits until the links of a namespace have their carriers, and until, there and on the host, no address is tentative, bridges
// know their state, and routes have noticed carriers. What never has a carrier, a tap device that no program has opened or a
// bridge without such a port, is not waited for.
func Settle(t testing.TB, ns string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		yet := unsettled(t, "", false)
		if yet == "" && ns != "" {
			yet = unsettled(t, ns, true)
		}
		if yet == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(yet)
		}
	}
}

// unsettled tells what is still to come in a namespace, "" for nothing.
func unsettled(t testing.TB, ns string, carriers bool) string {
	t.Helper()
	links := Links(t, ns)
	masters := make(map[string]bool)
	for _, l := range links {
		masters[l.Master] = true
	}
	for _, l := range links {
		down := slices.Contains(l.Flags, "NO-CARRIER")
		switch {
		case down && carriers && l.Kind != "tun" && l.Kind != "bridge":
			return fmt.Sprintf("link %s has no carrier", l.Name)
		case l.Kind == "veth" && l.State != "UP" && slices.Contains(l.Flags, "LOWER_UP"):
			return fmt.Sprintf("link %s hasn't noticed its carrier", l.Name)
		case l.Kind == "bridge" && masters[l.Name] && l.State == "UNKNOWN" && slices.Contains(l.Flags, "LOWER_UP"): // without ports it stays so
			return fmt.Sprintf("bridge %s doesn't know its state yet", l.Name)
		}
	}
	noCarrier := func(dev string) bool { return slices.Contains(links[dev].Flags, "NO-CARRIER") }
	for _, a := range Addrs(t, ns) {
		if a.Tentative && !noCarrier(a.Dev) {
			return fmt.Sprintf("address %s of %s is still tentative", a.Prefix, a.Dev)
		}
	}
	for _, family := range []int{4, 6} {
		for _, r := range Routes(t, ns, family) {
			if slices.Contains(r.Flags, "linkdown") && !noCarrier(r.Dev) {
				return fmt.Sprintf("the route to %s hasn't noticed the carrier of %s", r.Dst, r.Dev)
			}
		}
	}
	return ""
}

// Routes returns routes of family 4 or 6. filter is what `ip route show` takes; without it, that is the main table.
func Routes(t testing.TB, ns string, family int, filter ...string) []Route {
	t.Helper()
	args := append(ipArgs(ns, fmt.Sprintf("-%d", family), "route", "show"), strings.Fields(strings.Join(filter, " "))...)
	out, err := Try("ip", args...)
	if err != nil {
		if strings.Contains(err.Error(), "FIB table does not exist") {
			return nil // a table exists from its first route on
		}
		t.Fatal(err)
	}
	var routes []Route
	decode(t, &routes, "ip route", out)
	return routes
}

// Rules returns the routing policy rules of family 4 or 6.
func Rules(t testing.TB, ns string, family int) []Rule {
	t.Helper()
	var rules []Rule
	JSON(t, &rules, "ip", ipArgs(ns, fmt.Sprintf("-%d", family), "rule")...)
	return rules
}

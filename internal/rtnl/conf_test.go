package rtnl_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"github.com/plumb-cni/plumb/test/host"
)

// TestSettings compares what netlink tells of settings with what is below /proc/sys/net.
func TestSettings(t *testing.T) {
	c, ns := dial(t)
	many(t, ns, 2)
	const root = "/proc/sys/net/"
	set := func(name, value string) {
		t.Helper()
		host.RunIn(t, ns, "sh", "-ec", "echo "+value+" > "+root+name)
	}
	settings := map[string]func(*rtnl.Link, string) (int, bool){
		"ipv4 forwarding arp_notify": (*rtnl.Link).Setting4,
		"ipv6 forwarding accept_ra disable_ipv6 accept_dad ndisc_notify keep_addr_on_down": (*rtnl.Link).Setting6,
	}
	for names, setting := range settings {
		family, list, _ := strings.Cut(names, " ")
		for _, name := range strings.Fields(list) {
			for _, value := range []string{"1", "0"} {
				path := family + "/conf/a0/" + name
				set(path, value)
				l, err := c.Link("a0")
				if err != nil {
					t.Fatal(err)
				}
				if got, ok := setting(l, name); !ok || strconv.Itoa(got) != value {
					t.Errorf("%s is %s, netlink says %d, %v", path, value, got, ok)
				}
			}
		}
		l, err := c.Link("a0")
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := setting(l, "mtu"); ok {
			t.Errorf("netlink says that %s mtu is %d, which nobody has asked for", family, got)
		}
	}
	for path, is4 := range map[string]bool{"ipv4/ip_forward": true, "ipv6/conf/all/forwarding": false} {
		for _, value := range []string{"1", "0"} {
			set(path, value)
			if on, err := c.Forwards(is4); err != nil || on != (value == "1") {
				t.Errorf("%s is %s, netlink says %v, %v", path, value, on, err)
			}
		}
	}
	on := true
	l, err := c.Link("b0")
	if err == nil {
		err = c.SetLink(l.Index, rtnl.Change{ARPNotify: &on})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(host.RunIn(t, ns, "cat", root+"ipv4/conf/b0/arp_notify")); got != "1" {
		t.Errorf("arp_notify is %s", got)
	}
}

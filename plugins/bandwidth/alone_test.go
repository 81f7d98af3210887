package bandwidth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// redirects returns where the filters of what arrives at a link send packets, as
// tc lists them: "*" is a device that is gone.
func redirects(t *testing.T, link string) []string {
	t.Helper()
	var all []struct {
		Options struct {
			Actions []struct {
				To string `json:"to_dev"`
			}
		}
	}
	host.JSONIn(t, "", &all, "tc", "-j", "filter", "show", "dev", link, "ingress")
	var to []string
	for _, f := range all {
		for _, action := range f.Options.Actions {
			to = append(to, action.To)
		}
	}
	return to
}

// TestDelAlone takes the limits from a container that lives on: it is still
// reached, and nothing of them is on its link.
func TestDelAlone(t *testing.T) {
	for _, network := range []struct{ name, config, gateway string }{{"ptp", ptp, "10.60.0.1"}, {"bridge", bridge, "10.62.0.1"}} {
		for _, tt := range []struct {
			name  string
			leave func(t *testing.T, b *attach.Attachment)
		}{
			{"DEL", func(t *testing.T, b *attach.Attachment) { b.Del(t) }},
			{"GC", func(t *testing.T, b *attach.Attachment) { b.GC(t) }},
			{"DEL without a record", func(t *testing.T, b *attach.Attachment) { forget(t); b.Del(t) }},
			{"DEL without a record and prevResult", func(t *testing.T, b *attach.Attachment) { forget(t); b.Prev = nil; b.Del(t) }},
			{"GC without a record", func(t *testing.T, b *attach.Attachment) { forget(t); b.GC(t) }},
			{"DEL after its device", func(t *testing.T, b *attach.Attachment) { host.Run(t, "ip", "link", "del", ifbs(t, "")[0]); b.Del(t) }},
		} {
			t.Run(network.name+" "+tt.name, func(t *testing.T) {
				a := attached(t, network.config, "alone")
				defer a.Del(t)
				b := a.Then(t, bandwidth(limits))
				b.Add(t)
				end := a.HostEnd(t)
				host.Ping(t, a.NetNS, network.gateway)
				tt.leave(t, b)
				host.Ping(t, a.NetNS, network.gateway)
				if got := ifbs(t, ""); len(got) != 0 {
					t.Errorf("devices: %v", got)
				}
				if got := redirects(t, end); len(got) != 0 {
					t.Errorf("%s redirects to %v", end, got)
				}
				if got := qdiscs(t, "", end); len(got) != 0 {
					t.Errorf("%s has %+v", end, got)
				}
				b = a.Then(t, bandwidth(limits))
				b.Add(t)
				b.Check(t)
				host.Ping(t, a.NetNS, network.gateway)
				b.Del(t)
			})
		}
	}
}

func forget(t *testing.T) {
	t.Helper()
	host.Run(t, "sh", "-c", "rm /run/plumb/attachments/bandwidth@*")
}

// TestLost has a redirection whose device is gone before the one that counts: CHECK
// says so, and ADD replaces it.
func TestLost(t *testing.T) {
	a := attached(t, ptp, "lost")
	b := a.Then(t, bandwidth(limits))
	b.Add(t)
	end, ifb := a.HostEnd(t), ifbs(t, "")[0]
	filter := []string{"filter", "add", "dev", end, "ingress", "prio", "1", "protocol", "all", "u32", "match", "u32", "0", "0",
		"action", "mirred", "egress", "redirect", "dev"}
	host.Run(t, "tc", "filter", "del", "dev", end, "ingress")
	host.Run(t, "ip", "link", "add", "lost0", "type", "ifb")
	host.Run(t, "tc", append(filter, "lost0")...)
	host.Run(t, "tc", append(filter, ifb)...)
	if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "redirection to "+ifb+" is behind a filter that sends packets to link") {
		t.Errorf("CHECK: %s", got)
	}
	host.Run(t, "ip", "link", "del", "lost0")
	if got := redirects(t, end); !slices.Equal(got, []string{"*", ifb}) {
		t.Fatalf("%s redirects to %v", end, got)
	}
	if got := b.Drifts(t, state.CodeDrift); !strings.Contains(got, "redirection to "+ifb+" is behind a filter that sends packets to a link that is gone, want first") {
		t.Errorf("CHECK: %s", got)
	}
	b.Add(t)
	b.Check(t)
	host.Ping(t, a.NetNS, "10.60.0.1")
	if got := redirects(t, end); !slices.Equal(got, []string{ifb}) {
		t.Errorf("after ADD %s redirects to %v", end, got)
	}
	b.Del(t)
}

// TestOthersFilters are left where they are, with the discipline that they are in,
// whoever made it.
func TestOthersFilters(t *testing.T) {
	for i, tt := range []struct {
		name, before, after string
		filters             int      // of theirs
		want                []string // kinds that stay
	}{
		{"in a clsact of theirs", "tc qdisc add dev $END clsact; $FILTER", "", 1, []string{"clsact"}},
		{"in an ingress of theirs", "tc qdisc add dev $END ingress; $FILTER", "", 1, []string{"ingress"}},
		{"none, in an ingress of theirs", "tc qdisc add dev $END ingress", "", 0, []string{"ingress"}},
		{"in the one that ADD made", "", "$FILTER", 1, []string{"ingress"}},
		{"beside that of ADD", "", "$BESIDE", 1, []string{"ingress"}},
		{"a root of theirs", "", "$FILTER; tc qdisc replace dev $END root pfifo", 1, []string{"pfifo", "ingress"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := attached(t, ptp, fmt.Sprintf("others%d", i))
			defer a.Del(t)
			end := a.HostEnd(t)
			words := strings.NewReplacer("$END", end, "$FILTER", "tc filter add dev "+end+" ingress prio 5 protocol ip u32 match ip dst 10.9.0.9/32 flowid 1:1",
				"$BESIDE", "tc filter add dev "+end+" ingress prio 1 protocol all u32 match ip dst 10.9.0.9/32 flowid 1:1")
			host.Run(t, "sh", "-ec", words.Replace(tt.before))
			b := a.Then(t, bandwidth(limits))
			b.Add(t)
			b.Check(t)
			host.Run(t, "sh", "-ec", words.Replace(tt.after))
			b.Del(t)
			host.Ping(t, a.NetNS, "10.60.0.1")
			var kinds []string
			for _, q := range qdiscs(t, "", end) {
				kinds = append(kinds, q.Kind)
			}
			if !slices.Equal(kinds, tt.want) {
				t.Errorf("%s has %v, want %v", end, kinds, tt.want)
			}
			if got := host.Run(t, "tc", "filter", "show", "dev", end, "ingress"); strings.Count(got, "match 0a090009") != tt.filters {
				t.Errorf("filters of %s: %s", end, got)
			}
		})
	}
}

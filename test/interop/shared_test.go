package interop

import (
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// sharedRules are the reference's tables without anything in them that is of an
// attachment.
const sharedRules = `^nft (table inet cni_plugins_masquerade$|chain inet cni_plugins_masquerade |rule inet cni_plugins_masquerade postrouting |` +
	`table ip6? nat$|chain ip6? nat (PREROUTING|INPUT|OUTPUT|POSTROUTING) )`

// sharedPorts are portmap's chains of either back end of the reference's, and the rules that lead to them.
const sharedPorts = `^(nft (table|chain) ip6? cni_hostport\b|nft rule ip6? cni_hostport (prerouting|output|hostports_all) |` +
	`(nft chain ip6? nat|ip6?tables-save nat chain) CNI-HOSTPORT-(DNAT|SETMARK|MASQ) |` +
	`(nft rule ip6? nat|ip6?tables-save nat -A) ((PREROUTING|OUTPUT|POSTROUTING) .*CNI-HOSTPORT-|CNI-HOSTPORT-(SETMARK|MASQ) ))`

// sharedIsolation are firewall's rules about bridges.
const sharedIsolation = `^(nft rule ip6? filter|ip6?tables-save filter -A) CNI-ISOLATION-STAGE-[12] `

// sharedLocalnet is our mark of a bridge behind which 127.0.0.1 is published, which stays as the bridge does.
const sharedLocalnet = `^nft element inet plumb localnet-opened .* comment="plumb"$`

// sharedIndex is our index of a folder of addresses, which the reference
// doesn't know.
const sharedIndex = `^file /var/lib/cni/networks/\.plumb/`

// sharedAnycast is what the kernel adds on the uplink of a host that forwards.
const sharedAnycast = `^route 6 table local anycast \S+ dev ` + host.Uplink + ` `

// nothingLeft fails the test when the host has anything but what outlives the
// last attachment, whoever made it.
func nothingLeft(t *testing.T, before host.State) {
	t.Helper()
	host.Unchanged(t, before, shared()...)
}

func shared() []string {
	return []string{
		host.SharedNFT, host.SharedFirewall, host.SharedFiles, host.SharedForwarding, host.SharedBridge(bridgeName),
		sharedRules, sharedPorts, sharedIsolation, sharedLocalnet, sharedIndex, sharedAnycast,
	}
}

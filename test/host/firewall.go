package host

// SharedFirewall is the pattern of iptables' filter tables with the chains that admitted addresses are in, and none of these, and
// of the element that has the number of the rule that leads there.
const SharedFirewall = `^(nft element inet plumb forward-handles[46] \{ (0\.0\.0\.0|::) : .*comment="plumb"$|nft table ip6? filter$|nft chain ip6? filter (FORWARD|CNI-\S+) |` +
	`nft rule ip6? filter \S+ .*"jump":\{"target":"CNI-|ip6?tables-save filter (chain CNI-\S+ -|-A \S+ .*-j CNI-(FORWARD|ADMIN|ISOLATION-STAGE-1)$))`

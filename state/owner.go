package state

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// An Owner is the attachment that kernel objects belong to: one interface of
// one container on one network (SPEC section 3).
type Owner struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// tagPrefix starts every tag, so that an object of ours is told from others.
const tagPrefix = "plumb:"

// Limits that keep a tag within the 128 bytes of an nftables comment.
const (
	maxTagNetwork   = 40
	maxTagContainer = 64
)

// Tag returns the mark that every object of the owner carries (a link's
// alias, an nftables comment): "plumb:NETWORK/CONTAINERID/IFNAME", at most
// 127 bytes. A part that is too long is replaced by "~" and its hash, so two
// owners never share a tag and an operator can read whose an object is.
func (o Owner) Tag() string {
	return NetworkTag(o.Network) + shorten(o.ContainerID, maxTagContainer) + "/" + o.IfName
}

// NetworkTag returns the prefix that the tags of all of a network's owners
// have in common, and no tag of another network.
func NetworkTag(network string) string {
	return tagPrefix + shorten(network, maxTagNetwork) + "/"
}

// On reports whether the owner, which may come from [ParseTag], is of a
// network.
func (o Owner) On(network string) bool { return NetworkTag(o.Network) == NetworkTag(network) }

// Same reports whether two owners, either of which may come from [ParseTag],
// are the same attachment.
func (o Owner) Same(other Owner) bool { return o.Tag() == other.Tag() }

// Stale returns what tells whether an owner, which may come from [ParseTag], is of a
// network, and none of its valid attachments. Of many it finds out as fast as of
// one.
func Stale(network string, valid []Owner) func(Owner) bool {
	tags := Named(valid, Owner.Tag)
	return func(o Owner) bool { return o.On(network) && !tags[o.Tag()] }
}

// Named returns the names of owners that a function gives them.
func Named(owners []Owner, name func(Owner) string) map[string]bool {
	names := make(map[string]bool, len(owners))
	for _, o := range owners {
		names[name(o)] = true
	}
	return names
}

// Tagged reports whether a mark found on an object is an owner's tag at all.
func Tagged(mark string) bool { return strings.HasPrefix(mark, tagPrefix) }

// Hash returns 64 hexadecimal digits that identify the owner, for names that
// are too short for the tag. The parts are separated by NUL, which none of
// them may hold.
func (o Owner) Hash() string {
	sum := sha256.Sum256([]byte(o.Network + "\x00" + o.ContainerID + "\x00" + o.IfName))
	return hex.EncodeToString(sum[:])
}

// ParseTag returns an owner that has the given tag. Where the tag holds a
// hash in the place of a long part, so does the owner.
func ParseTag(tag string) (Owner, bool) {
	rest, ok := strings.CutPrefix(tag, tagPrefix)
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) != 3 {
		return Owner{}, false
	}
	return Owner{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

func (o Owner) String() string {
	return o.Network + "/" + o.ContainerID + "/" + o.IfName
}

func shorten(part string, max int) string {
	if len(part) <= max {
		return part
	}
	sum := sha256.Sum256([]byte(part))
	return "~" + hex.EncodeToString(sum[:10])
}

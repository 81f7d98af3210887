package nftconn

import "golang.org/x/sys/unix"

// InterfaceKey returns an interface's name as a field of type IfName.
func InterfaceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// InterfaceName returns the name at the beginning of a key.
func InterfaceName(key []byte) string {
	return unix.ByteSliceToString(key[:min(len(key), unix.IFNAMSIZ)])
}

// InputInterface loads the name of the interface that a packet came in by.
func InputInterface() Meta { return Meta{Key: unix.NFT_META_IIFNAME, Reg: Reg} }

// regAfterInterface is the register that follows a name in Reg in a
// concatenation.
const regAfterInterface uint32 = unix.NFT_REG_2

// InputInterfaceAndSourceMAC loads the name of the interface that a frame came
// in by and the hardware address that it comes from, for a lookup in a set of
// both.
func InputInterfaceAndSourceMAC() []Expr {
	return []Expr{InputInterface(), Payload{Base: LinkHeader, Offset: 6, Len: 6, Reg: regAfterInterface}}
}

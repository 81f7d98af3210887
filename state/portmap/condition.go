package portmap

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/nftconn"
	"golang.org/x/sys/unix"
)

// An alternative is what has to hold of a packet, all of it.
type alternative []nftconn.Expr

// maxAlternatives bounds what sets in conditions multiply to.
const maxAlternatives = 64

// Compile returns the alternatives that conditions in nft's syntax come to, nil
// for none. What it knows is
//
//	ip saddr | ip daddr | ip6 saddr | ip6 daddr  [!= | ==]  ADDRESS | PREFIX | { ADDRESS, PREFIX … }
//	[meta] iifname  [!= | ==]  NAME | NAME* | { NAME, NAME … }
//	[meta] mark  [!= | ==]  NUMBER | { NUMBER … }
//
// one after the other, of which all have to hold. Anything else is an error of
// cni.CodeUnsupportedField that names the word.
func Compile(f nftconn.Family, conditions []string) ([]alternative, error) {
	w := words{family: f}
	for _, c := range conditions {
		c = strings.NewReplacer("{", " { ", "}", " } ", ",", " , ").Replace(c)
		w.left = append(w.left, strings.Fields(c)...)
	}
	if len(w.left) == 0 {
		return nil, nil
	}
	all := []alternative{nil}
	for len(w.left) > 0 {
		choices, err := w.condition()
		if err != nil {
			return nil, err
		}
		var next []alternative
		for _, a := range all {
			for _, c := range choices {
				next = append(next, slices.Concat(a, c))
			}
		}
		if all = next; len(all) > maxAlternatives {
			return nil, cni.Errorf(cni.CodeUnsupportedField, "conditions %q come to more than %d alternatives", conditions, maxAlternatives)
		}
	}
	return all, nil
}

// words are those of conditions that are not read yet.
type words struct {
	family nftconn.Family
	left   []string
}

// next takes a word, "" at the end.
func (w *words) next() string {
	if len(w.left) == 0 {
		return ""
	}
	word := w.left[0]
	w.left = w.left[1:]
	return word
}

func (w *words) unknown(word string) error {
	if word == "" {
		return cni.Errorf(cni.CodeInvalidConfig, "conditions end in the middle of a match")
	}
	return cni.Errorf(cni.CodeUnsupportedField, "conditions: %q is not understood: there are ip and ip6 saddr and daddr, iifname, and mark; "+
		`for others use the iptables backend and its syntax`, word)
}

// condition reads one match and returns what it may come to.
func (w *words) condition() ([]alternative, error) {
	word := w.next()
	switch word {
	case "ip", "ip6":
		if f := map[string]nftconn.Family{"ip": nftconn.IPv4, "ip6": nftconn.IPv6}[word]; f != w.family {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "conditions: %q is of the other family", word)
		}
		switch field := w.next(); field {
		case "saddr":
			return w.values(w.address(nftconn.SourceAddr(w.family)))
		case "daddr":
			return w.values(w.address(nftconn.DestinationAddr(w.family)))
		default:
			return nil, w.unknown(field)
		}
	case "meta":
		word = w.next()
	}
	switch word {
	case "iifname":
		return w.values(interfaceName)
	case "mark":
		return w.values(mark)
	}
	return nil, w.unknown(word)
}

// A matcher returns what comparing with a value is.
type matcher func(op nftconn.Op, value string) (alternative, error)

// values reads a comparison: those of a set are alternatives, unless none of
// them may match.
func (w *words) values(match matcher) ([]alternative, error) {
	op := nftconn.Equal
	word := w.next()
	if word == "!=" || word == "==" {
		if word == "!=" {
			op = nftconn.NotEqual
		}
		word = w.next()
	}
	list := []string{word}
	if word == "{" {
		list = nil
		for word = w.next(); word != "}"; word = w.next() {
			if word == "" {
				return nil, w.unknown("")
			}
			if word != "," {
				list = append(list, word)
			}
		}
	}
	var choices []alternative
	for _, value := range list {
		if value == "" {
			return nil, w.unknown("")
		}
		a, err := match(op, strings.Trim(value, `"`))
		if err != nil {
			return nil, err
		}
		if op == nftconn.NotEqual && choices != nil {
			choices[0] = slices.Concat(choices[0], a)
		} else {
			choices = append(choices, a)
		}
	}
	if choices == nil {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "conditions: a set is empty")
	}
	return choices, nil
}

func (w *words) address(load nftconn.Payload) matcher {
	return func(op nftconn.Op, value string) (alternative, error) {
		p, err := netip.ParsePrefix(value)
		if a, err2 := netip.ParseAddr(value); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, w.unknown(value)
		}
		if nftconn.FamilyOf(p.Addr()) != w.family {
			return nil, cni.Errorf(cni.CodeInvalidConfig, "conditions: %s is of the other family", value)
		}
		data, mask := p.Masked().Addr().AsSlice(), nftconn.Mask(p.Addr().BitLen(), p.Bits())
		return alternative{load, nftconn.Bitwise{Reg: nftconn.Reg, Mask: mask, Xor: make([]byte, len(mask))}, nftconn.Cmp{Op: op, Reg: nftconn.Reg, Data: data}}, nil
	}
}

func interfaceName(op nftconn.Op, value string) (alternative, error) {
	prefix, any := strings.CutSuffix(value, "*")
	if prefix == "" || len(prefix) >= unix.IFNAMSIZ {
		return nil, cni.Errorf(cni.CodeInvalidConfig, "conditions: %q is no name of an interface", value)
	}
	exprs := nftconn.FromInterface(op, prefix)
	if any {
		cmp := exprs[1].(nftconn.Cmp)
		cmp.Data = cmp.Data[:len(prefix)]
		exprs[1] = cmp
	}
	return exprs, nil
}

func mark(op nftconn.Op, value string) (alternative, error) {
	n, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return nil, cni.Errorf(cni.CodeUnsupportedField, "conditions: mark %q is not understood: it is a number", value)
	}
	return alternative{nftconn.Mark(), nftconn.Cmp{Op: op, Reg: nftconn.Reg, Data: binary.NativeEndian.AppendUint32(nil, uint32(n))}}, nil
}

package resolver

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/plumb-cni/plumb/state/dnsname"
)

// ttl is how many seconds an answer may be kept: none, since the next container
// may have the address.
const ttl = 0

// maxUDP is the largest answer over UDP, which no network cuts into pieces (DNS
// flag day 2020).
const maxUDP = 1232

// answer answers a query that came in at an address of the host's.
func (r *Resolver) answer(server netip.Addr, w dns.ResponseWriter, q *dns.Msg) {
	source, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return
	}
	v, ok := r.table.view(server, source.Addr().Unmap().WithZone(""))
	question := q.Question[0]
	switch {
	case q.Opcode != dns.OpcodeQuery:
		reply(w, q, explain(q, dns.RcodeNotImplemented, dns.ExtendedErrorCodeNotSupported, "only queries are answered"))
		return
	case !ok:
		reply(w, q, refuse(q, dns.ExtendedErrorCodeProhibited, "you are on none of the networks that are served here"))
		return
	case q.IsEdns0() != nil && q.IsEdns0().Version() != 0:
		m := new(dns.Msg).SetRcode(q, dns.RcodeBadVers)
		reply(w, q, m)
		return
	case question.Qclass != dns.ClassINET, question.Qtype == dns.TypeAXFR, question.Qtype == dns.TypeIXFR:
		reply(w, q, refuse(q, dns.ExtendedErrorCodeNotSupported, "only single records of the Internet are served"))
		return
	}
	if m := v.answer(q); m != nil {
		reply(w, q, m)
		return
	}
	local := r.isLocal(source.Addr().Unmap())
	reply(w, q, r.upstream.ask(q, &v, w.RemoteAddr().Network(), local, r.serves))
}

// isLocal reports whether a query comes from the host itself.
func (r *Resolver) isLocal(source netip.Addr) bool {
	return source.IsLoopback() || r.table.serves(source)
}

// serves reports whether a server is this one.
func (r *Resolver) serves(server netip.AddrPort) bool {
	return server.Port() == dnsname.Port && r.table.serves(server.Addr())
}

// reply sends an answer in the form that the query allows.
func reply(w dns.ResponseWriter, q, m *dns.Msg) {
	size := dns.MaxMsgSize
	opt := q.IsEdns0()
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = dns.MinMsgSize
		if opt != nil {
			size = max(size, min(int(opt.UDPSize()), dns.MaxMsgSize))
		}
	}
	if opt != nil && m.IsEdns0() == nil {
		m.SetEdns0(maxUDP, false)
	}
	m.Truncate(size)
	_ = w.WriteMsg(m) // who asks, asks again
}

// refuse returns an answer that says why there is none.
func refuse(q *dns.Msg, code uint16, why string) *dns.Msg {
	return explain(q, dns.RcodeRefused, code, why)
}

// explain returns an error, with the reason for those who understand EDNS (RFC
// 8914).
func explain(q *dns.Msg, rcode int, code uint16, why string) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	if q.IsEdns0() != nil {
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code, ExtraText: why}}
	}
	return m
}

// answer returns the answer to what the view knows itself, or nil if somebody
// else has to be asked.
func (v *view) answer(q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	if addr, ok := fromReverse(name); ok {
		f := v.reverse(addr)
		if !f.known {
			return nil
		}
		v.pointers(m, f, question)
		return m
	}
	f := v.lookup(name)
	if !f.known {
		return nil
	}
	for _, e := range f.entries {
		for _, p := range e.Addresses {
			if rr := address(question, p.Addr()); rr != nil {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	// Who takes the first one takes another each time.
	rand.Shuffle(len(m.Answer), func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
	if f.entries == nil && name != f.zone {
		m.Rcode = dns.RcodeNameError
	}
	if name == f.zone && (question.Qtype == dns.TypeSOA || question.Qtype == dns.TypeANY) {
		m.Answer = append(m.Answer, soa(f.zone))
	}
	if m.Answer == nil {
		zone := f.zone
		if zone == "" {
			zone = name // a short name is a zone of its own
		}
		m.Ns = []dns.RR{soa(zone)}
	}
	return m
}

// address returns the record of an address, nil if the question is for others.
func address(q dns.Question, a netip.Addr) dns.RR {
	h := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
	switch {
	case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: a.AsSlice()}
	case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
		h.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}
	}
	return nil
}

// pointers answers for an address.
func (v *view) pointers(m *dns.Msg, f finding, q dns.Question) {
	if f.entries == nil {
		m.Rcode = dns.RcodeNameError
		return
	}
	if q.Qtype != dns.TypePTR && q.Qtype != dns.TypeANY {
		return
	}
	var names []string
	for _, e := range f.entries {
		name := dns.Fqdn(e.Names[0] + "." + e.Domain)
		if slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
		m.Answer = append(m.Answer, &dns.PTR{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: name})
	}
}

// soa says how long it may be kept that there is nothing: not at all (RFC 2308).
func soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: dns.Fqdn(zone), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  dns.Fqdn(zone), Mbox: "hostmaster." + dns.Fqdn(zone), Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: ttl,
	}
}

// fromReverse returns the address that a name under in-addr.arpa or ip6.arpa
// stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
func fromReverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(rest, ".")
		slices.Reverse(labels)
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	labels := strings.Split(rest, ".")
	var b [16]byte
	if !ok || len(labels) != 2*len(b) {
		return netip.Addr{}, false
	}
	for i, label := range labels {
		digit, err := strconv.ParseUint(label, 16, 4)
		if err != nil || len(label) != 1 {
			return netip.Addr{}, false
		}
		at := len(b) - 1 - i/2
		b[at] |= byte(digit) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

package resolver

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// resolvConf names the host's servers. It is read when it has changed.
const resolvConf = "/etc/resolv.conf"

// Limits of asking others. A container's own patience is 5 s a try by default.
const (
	tryTimeout  = 2 * time.Second
	wholeLimit  = 4500 * time.Millisecond
	failedPause = 10 * time.Second // for which a server that was silent comes last
	atOnce      = 1000             // questions that wait for an answer
)

// An upstream is whoever knows the names that are no container's.
type upstream struct {
	slots slots

	mu      sync.Mutex
	read    fileID
	servers []string // of resolvConf, with ports
	failed  map[string]time.Time
	asked   map[dns.Question]int // that wait for an answer
}

// A fileID changes when a file does.
type fileID struct {
	info os.FileInfo
}

func (f fileID) same(info os.FileInfo) bool {
	return f.info != nil && os.SameFile(f.info, info) && f.info.ModTime().Equal(info.ModTime()) && f.info.Size() == info.Size()
}

func newUpstream() *upstream {
	return &upstream{slots: slots{of: make(count[string])}, failed: make(map[string]time.Time), asked: make(map[dns.Question]int)}
}

// slots are those of questions that wait for an answer, by who has asked. A client
// may have no more of them than are left: one that asks for all the names of the
// world leaves half, two leave a third.
type slots struct {
	mu    sync.Mutex
	taken int
	of    count[string]
}

// take reports whether a client gets a slot, which is to be given back.
func (s *slots) take(client string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[client] >= atOnce-s.taken {
		return false
	}
	s.taken++
	s.of.add(client, 1)
	return true
}

func (s *slots) giveBack(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.of.add(client, -1)
}

// ask asks the servers of a view's networks, or the host's if they have none, by
// the protocol that the question came by. What is cut short is asked for again,
// over TCP, by who asked. A question that comes from the host while it waits for
// its own answer is one of ours, that a server has sent back.
func (u *upstream) ask(q *dns.Msg, v *view, network string, local bool, self func(netip.AddrPort) bool) *dns.Msg {
	failure := func(code uint16, format string, args ...any) *dns.Msg {
		return explain(q, dns.RcodeServerFailure, code, fmt.Sprintf(format, args...))
	}
	if !u.slots.take(v.client) {
		return failure(dns.ExtendedErrorCodeNotReady, "too many of your questions wait for an answer")
	}
	defer u.slots.giveBack(v.client)
	servers, err := u.serversOf(v.remote, self)
	if err != nil {
		return failure(dns.ExtendedErrorCodeNotReady, "%v", err)
	}
	if !u.begin(q.Question[0], local) {
		return failure(dns.ExtendedErrorCodeNotReady, "the question has come back: a server of the host's asks its containers' resolver")
	}
	defer u.done(q.Question[0])
	ctx, cancel := context.WithTimeout(context.Background(), wholeLimit)
	defer cancel()
	var last *dns.Msg
	var errs []string
	for _, server := range servers {
		m, err := exchange(ctx, q, server, network)
		u.note(server, err)
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		if m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused && m.Rcode != dns.RcodeNotImplemented {
			return m
		}
		last = m
	}
	if last != nil {
		return last
	}
	return failure(dns.ExtendedErrorCodeNetworkError, "%s", strings.Join(errs, "; "))
}

// exchange asks one server.
func exchange(ctx context.Context, q *dns.Msg, server, network string) (*dns.Msg, error) {
	c := &dns.Client{Net: network, Timeout: tryTimeout, UDPSize: dns.MaxMsgSize}
	sent := q.Copy()
	sent.Id = dns.Id()
	m, _, err := c.ExchangeContext(ctx, sent, server)
	if err != nil {
		return nil, err
	}
	if len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name) || m.Question[0].Qtype != q.Question[0].Qtype {
		return nil, fmt.Errorf("%s answers another question", server)
	}
	m.Id, m.Question = q.Id, q.Question
	return m, nil
}

// begin notes that a question waits, unless it is one that has come back.
func (u *upstream) begin(q dns.Question, local bool) bool {
	q.Name = strings.ToLower(q.Name)
	u.mu.Lock()
	defer u.mu.Unlock()
	if local && u.asked[q] > 0 {
		return false
	}
	u.asked[q]++
	return true
}

func (u *upstream) done(q dns.Question) {
	q.Name = strings.ToLower(q.Name)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked[q]--; u.asked[q] == 0 {
		delete(u.asked, q)
	}
}

// note remembers who did not answer.
func (u *upstream) note(server string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.failed[server] = time.Now()
	} else {
		delete(u.failed, server)
	}
}

// serversOf returns whom to ask, in order: not the resolver itself, and last who
// did not answer just now.
func (u *upstream) serversOf(remote []netip.AddrPort, self func(netip.AddrPort) bool) ([]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, r := range remote {
		all = append(all, r.String())
	}
	if all == nil {
		if err := u.reread(); err != nil {
			return nil, err
		}
		all = u.servers
	}
	servers := slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		at, err := netip.ParseAddrPort(s)
		return err == nil && self(at)
	})
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no server but the containers' resolver itself", resolvConf)
	}
	silent := func(s string) int {
		if t, ok := u.failed[s]; ok && time.Since(t) < failedPause {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(servers, func(a, b string) int { return cmp.Compare(silent(a), silent(b)) })
	return servers, nil
}

// reread reads the host's servers if their file has changed. Where it names none
// it is the host itself (resolv.conf(5)).
func (u *upstream) reread() error {
	info, err := os.Stat(resolvConf)
	if err != nil {
		return err
	}
	if u.read.same(info) {
		return nil
	}
	config, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return err
	}
	u.read, u.servers = fileID{info}, nil
	for _, s := range config.Servers {
		u.servers = append(u.servers, net.JoinHostPort(s, config.Port))
	}
	if u.servers == nil {
		u.servers = []string{net.JoinHostPort("127.0.0.1", config.Port)}
	}
	return nil
}

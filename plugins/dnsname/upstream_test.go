package dnsname_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/keys"
)

// Other names are asked of the host's servers, as its file names them at the
// moment, also of one on the loopback that no container reaches.
func TestUpstream(t *testing.T) {
	resolvConf(t, "127.0.0.53", map[string]string{"www.example.com": "192.0.2.80"})
	p := newPod(t, 60, 2, "p", "")
	for _, protocol := range []string{"+notcp", "+tcp"} {
		if got := p.short(t, p.server4(), protocol, "www.example.com"); got != "192.0.2.80" {
			t.Errorf("www.example.com %s is %q", protocol, got)
		}
	}
	if got := p.short(t, p.server6(), "www.example.com"); got != "192.0.2.80" {
		t.Errorf("www.example.com is %q", got)
	}
	for _, tt := range []struct{ name, kind, want string }{
		{"www.example.com", "AAAA", "NOERROR"}, {"none.example.com", "A", "NXDOMAIN"},
	} {
		if got := p.status(t, p.server4(), tt.name, tt.kind); got != tt.want {
			t.Errorf("%s %s is %s, want %s", tt.name, tt.kind, got, tt.want)
		}
	}
	if out := p.dig(t, "@"+p.server4(), "www.example.com"); !strings.Contains(out, "flags: qr aa rd ra") && !strings.Contains(out, "flags: qr rd ra") {
		t.Errorf("dig says\n%s", out)
	}

	// The file changes.
	serve(t, "127.0.0.54", map[string]string{"www.example.com": "192.0.2.81"})
	host.Run(t, "sh", "-c", "echo nameserver 127.0.0.54 > /etc/resolv.conf")
	if got := p.short(t, p.server4(), "www.example.com"); got != "192.0.2.81" {
		t.Errorf("www.example.com is %q after the file has changed", got)
	}
	// The first one is silent, then for good.
	host.Run(t, "sh", "-c", "printf 'nameserver 127.0.0.55\nnameserver 127.0.0.54\n' > /etc/resolv.conf")
	silent(t, "127.0.0.55")
	for i := range 2 {
		start := time.Now()
		if got := p.short(t, p.server4(), "www.example.com"); got != "192.0.2.81" {
			t.Errorf("www.example.com is %q with one server silent", got)
		}
		if took := time.Since(start); i == 1 && took > 2*time.Second {
			t.Errorf("a server that was silent just now is asked first again: %v", took)
		}
	}
}

// An answer that does not fit is cut, and comes whole by TCP; a larger one comes by
// UDP to those who take it.
func TestTruncation(t *testing.T) {
	many := make(map[string]string)
	resolvConf(t, "127.0.0.53", many)
	var records []string
	for i := range 60 {
		records = append(records, fmt.Sprintf("--host-record=many.example.com,192.0.2.%d", i+1))
	}
	serve(t, "127.0.0.56", nil, records...)
	host.Run(t, "sh", "-c", "echo nameserver 127.0.0.56 > /etc/resolv.conf")
	p := newPod(t, 60, 2, "p", "")
	var alias []*pod
	for i := range 40 {
		if i > 0 && i%8 != 0 {
			continue
		}
		alias = append(alias, newPod(t, 60, 10+i, fmt.Sprintf("n%d", i), `,"runtimeConfig":{"aliases":{"net60":["many"]}}`))
	}
	if out := p.dig(t, "+ignore", "+noedns", "@"+p.server4(), "many.example.com"); !strings.Contains(out, "flags: qr aa tc") && !strings.Contains(out, " tc ") {
		t.Errorf("an answer that does not fit:\n%s", out)
	}
	if got := strings.Fields(p.short(t, p.server4(), "+noedns", "many.example.com")); len(got) != 60 {
		t.Errorf("by TCP there are %d addresses", len(got))
	}
	if got := strings.Fields(p.short(t, p.server4(), "+bufsize=4096", "+ignore", "many.example.com")); len(got) != 60 {
		t.Errorf("by a large packet there are %d addresses", len(got))
	}
	if got := strings.Fields(p.short(t, p.server4(), "many")); len(got) != len(alias) {
		t.Errorf("many are %v", got)
	}
}

// A network's own servers are asked in the place of the host's.
func TestRemoteServers(t *testing.T) {
	keys.Covers(t, "dnsname", "remoteServers")
	resolvConf(t, "127.0.0.53", map[string]string{"www.example.com": "192.0.2.80"})
	serve(t, "127.0.0.57", map[string]string{"www.example.com": "192.0.2.90"})
	serve(t, "127.0.0.58#5353", map[string]string{"www.example.com": "192.0.2.91"})
	p := newPod(t, 60, 2, "p", `,"remoteServers":["127.0.0.57"]`)
	q := newPod(t, 61, 2, "q", `,"remoteServers":["127.0.0.58#5353"]`)
	r := newPod(t, 62, 2, "r", "")
	for x, want := range map[*pod]string{p: "192.0.2.90", q: "192.0.2.91", r: "192.0.2.80"} {
		if got := x.short(t, x.server4(), "www.example.com"); got != want {
			t.Errorf("www.example.com is %q, want %q", got, want)
		}
	}
	p.Check(t)
}

// A container that asks more than can be answered takes nobody else's place.
func TestShare(t *testing.T) {
	const flood = 1500
	silent(t, "127.0.0.55")
	p := newPod(t, 60, 2, "p", `,"remoteServers":["127.0.0.55"]`)
	q := newPod(t, 61, 2, "q", "")
	var conn net.Conn
	err := host.In(t, p.NetNS, func() (err error) {
		conn, err = net.Dial("udp", p.server4()+":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// After the thread of host.In has ended, with which what it has started would end.
	resolvConf(t, "127.0.0.53", map[string]string{"www.example.com": "192.0.2.80"})
	// Those that find no place are told so at once, the others after seconds.
	refused := make(chan error)
	go func() {
		for buffer, n := make([]byte, dns.MinMsgSize), 0; n < flood/4; n++ {
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Read(buffer); err != nil {
				refused <- fmt.Errorf("%d of %d questions were refused: %w", n, flood, err)
				return
			}
			if m := new(dns.Msg); m.Unpack(buffer) != nil || m.Rcode != dns.RcodeServerFailure {
				refused <- fmt.Errorf("answered with %v", m)
				return
			}
		}
		refused <- nil
	}()
	for i := range flood {
		m, err := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.net.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(m); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			time.Sleep(time.Millisecond) // the resolver's buffer is finite
		}
	}
	if err := <-refused; err != nil {
		t.Fatal(err)
	}
	if got := q.short(t, q.server4(), "www.example.com"); got != "192.0.2.80" {
		t.Errorf("www.example.com is %q for another container", got)
	}
}

// A host that asks its containers' resolver, by itself or by a server of its own,
// gets an answer, and no storm.
func TestLoop(t *testing.T) {
	p := newPod(t, 60, 2, "p", "")
	for name, prepare := range map[string]func(){
		"itself": func() { useResolvConf(t, "nameserver 10.60.0.1\n") },
		"through another": func() {
			serve(t, "127.0.0.59", nil, "--server=10.60.0.1")
			useResolvConf(t, "nameserver 127.0.0.59\n")
		},
	} {
		prepare()
		start := time.Now()
		if got := p.status(t, p.server4(), "www.example.net"); got != "SERVFAIL" && got != "REFUSED" {
			t.Errorf("%s: %s", name, got)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		p.knows(t, "p", p.v4, p.v6)
	}
}

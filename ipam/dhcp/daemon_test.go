package dhcp_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/host"
)

const dual = `"ipv6":true`

// TestKilled kills the daemon and starts another, which renews what the first has got and does not ask anew.
func TestKilled(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 3*time.Second, 40*time.Second, time.Minute)
	d := newDaemon(t)
	a := l.attach(t, d, dual)
	added := time.Now()
	a.add(t)
	got := a.onLink(t)
	d.kill9(t)
	_, failure := a.call(t, "STATUS", a.config)
	if failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, d.socket) || !strings.Contains(failure.Details, "dhcp daemon") {
		t.Errorf("STATUS without a daemon: %v, %s", failure, failure.Details)
	}

	restarted := time.Now()
	d.start(t)
	until(t, "renewals by the new daemon", func() bool {
		return len(s.kinds("RENEW", restarted)) >= 2 && len(s.kinds("RENEW", added)) > 3 && strings.Count(d.String(), "renewed until") >= 3
	})
	for _, kind := range []string{"DISCOVER", "SOLICIT", "REQUEST"} {
		if again := s.kinds(kind, restarted); len(again) > 0 {
			t.Errorf("asked anew: %v", again)
		}
	}
	for _, m := range s.kinds("RENEW", restarted) {
		if m.from != "10.99.0.60" && !strings.HasPrefix(m.from, "fe80::") {
			t.Errorf("renewed from %s", m.from)
		}
	}
	if now := a.onLink(t); !slices.Equal(now, got) {
		t.Errorf("addresses %v, before %v", now, got)
	}
	if failure := a.check(t); failure != nil {
		t.Errorf("CHECK: %v", failure)
	}
	a.del(t)
	until(t, "two releases", func() bool { return len(s.kinds("RELEASE", restarted)) == 2 })
	if m := s.kinds("RELEASE", restarted); m[0].from != "10.99.0.60" && m[1].from != "10.99.0.60" {
		t.Errorf("releases: %v", m)
	}
	if left := d.leases(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestTermination ends the daemon by a signal: it leaves its leases, and takes its socket along.
func TestTermination(t *testing.T) {
	l := newLAN(t)
	l.script(t, 20*time.Second, 40*time.Second, time.Minute)
	pid := filepath.Join(t.TempDir(), "pid")
	d := newDaemon(t, "-pidfile", pid)
	data, err := os.ReadFile(pid)
	if err != nil || string(data) != fmt.Sprint(d.Process.Pid) {
		t.Errorf("-pidfile: %q, %v", data, err)
	}
	a := l.attach(t, d, "")
	a.add(t)
	silent, err := net.Dial("unix", d.socket) // a caller that never says what it wants
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := d.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(20*time.Second, d.kill)
	if err := d.wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	hung.Stop()
	for _, path := range []string{d.socket, pid} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if len(d.leases(t)) != 1 {
		t.Error("the lease is gone")
	}
	d.start(t)
	if failure := a.check(t); failure != nil {
		t.Errorf("CHECK: %v", failure)
	}
}

// TestOtherNamespace drops leases of a namespace that is gone while no daemon ran, although another is at its path.
func TestOtherNamespace(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 2*time.Second, 40*time.Second, time.Minute)
	d := newDaemon(t)
	a := l.attach(t, d, "")
	a.add(t)
	d.kill9(t)
	name := filepath.Base(a.netns)
	host.Run(t, "ip", "netns", "del", name)
	host.Run(t, "ip", "netns", "add", name)
	host.RunIn(t, a.netns, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
	restarted := time.Now()
	d.start(t)
	until(t, "the lease dropped", func() bool { return len(d.leases(t)) == 0 })
	time.Sleep(2500 * time.Millisecond) // past T1
	if m := s.kinds("RENEW", restarted); len(m) > 0 {
		t.Errorf("renewed in another namespace: %v", m)
	}
	a.del(t)
}

// TestRebind has the server fall silent until T2, from when on anyone is asked.
func TestRebind(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 2*time.Second, 4*time.Second, 30*time.Second)
	d := newDaemon(t)
	a := l.attach(t, d, dual)
	a.add(t)
	got := a.onLink(t)
	s.set(func() { s.silent = true })
	silent := time.Now()
	until(t, "REBIND", func() bool { return len(s.kinds("REBIND", silent)) > 0 })
	s.set(func() { s.silent = false })
	until(t, "leases rebound", func() bool { return strings.Count(d.String(), "renewed until") >= 2 })
	if now := a.onLink(t); !slices.Equal(now, got) {
		t.Errorf("addresses %v, before %v", now, got)
	}
	if asked := len(s.kinds("DISCOVER", silent)) + len(s.kinds("SOLICIT", silent)); asked > 0 {
		t.Errorf("asked anew %d times", asked)
	}
}

// TestExpired has the server fall silent for longer than the lease: the addresses leave the interface, and come back, with their
// routes, when the server does.
func TestExpired(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 2*time.Second, 3*time.Second, 4*time.Second)
	d := newDaemon(t)
	a := l.attach(t, d, dual)
	a.add(t)
	addrs, routes := a.onLink(t), host.Routes(t, a.netns, 4)
	s.set(func() { s.silent = true })
	until(t, "addresses withdrawn", func() bool { return len(a.onLink(t)) == 0 })
	failure := a.check(t)
	if failure == nil || failure.Code != state.CodeDrift {
		t.Errorf("CHECK: %v", failure)
	} else {
		matches(t, failure.Msg, `lease is lost: 10\.99\.0\.60`)
	}
	s.set(func() { s.silent = false })
	until(t, "addresses regained", func() bool { return slices.Equal(a.onLink(t), addrs) })
	until(t, "routes restored", func() bool { return fmt.Sprint(host.Routes(t, a.netns, 4)) == fmt.Sprint(routes) })
	until(t, "CHECK", func() bool { return a.check(t) == nil })
}

// TestRefusedRenewal has the server take the address away and offer another, which a container can't be given.
func TestRefusedRenewal(t *testing.T) {
	l := newLAN(t)
	s := l.script(t, 2*time.Second, 20*time.Second, 30*time.Second)
	d := newDaemon(t)
	a := l.attach(t, d, dual)
	a.add(t)
	s.set(func() { s.refuse, s.host = true, 61 })
	refused := time.Now()
	until(t, "addresses withdrawn", func() bool { return len(a.onLink(t)) == 0 })
	until(t, "what was offered released", func() bool { return len(s.kinds("RELEASE", refused)) >= 2 })
	if failure := a.check(t); failure == nil || failure.Code != state.CodeDrift {
		t.Errorf("CHECK: %v", failure)
	}
	a.del(t)
}

// TestNoServer has ADD wait for as long as the flags say, and leave nothing.
func TestNoServer(t *testing.T) {
	l := newLAN(t)
	d := newDaemon(t, "-timeout", "1s", "-resendmax", "1s", "-resendtimeout", "3s")
	a := l.attach(t, d, "")
	before, start := host.Snapshot(t), time.Now()
	_, failure := a.call(t, "ADD", a.config)
	if failure == nil || failure.Code != cni.CodeTryAgain {
		t.Fatalf("ADD: %v", failure)
	}
	matches(t, failure.Msg, `no offer of a DHCP server`)
	if strings.Count(failure.Error(), "the time for it is over") != 1 || !strings.Contains(failure.Error(), "is there a server") {
		t.Errorf("ADD: %v", failure)
	}
	if took := time.Since(start); took < 2*time.Second || took > 20*time.Second { // without flags it is a minute and more
		t.Errorf("ADD took %v", took)
	}
	host.Unchanged(t, before, host.SharedBridge(l.bridge), host.SharedFiles)
	if left := d.leases(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestManyAtOnce adds attachments at the same time, one of which nobody answers, and deletes those that are not valid by GC.
func TestManyAtOnce(t *testing.T) {
	l, deaf := newLAN(t), newLAN(t)
	server := l.dnsmasq(t)
	d := newDaemon(t, "-resendtimeout", "20s")
	waiting := deaf.attach(t, d, "")
	unheard := make(chan struct{})
	go func() {
		defer close(unheard)
		waiting.call(t, "ADD", waiting.config) //nolint:errcheck // it fails
	}()
	const n = 6
	var all []*attachment
	for range n {
		all = append(all, l.attach(t, d, ""))
	}
	host.Bin(t)
	var adds sync.WaitGroup
	for _, a := range all {
		adds.Go(func() { a.prev, _ = a.call(t, "ADD", a.config) })
	}
	adds.Wait()
	select {
	case <-unheard:
		t.Errorf("%d ADDs took as long as one that nobody answers", n)
	default:
	}
	addrs := make(map[string]bool)
	for _, a := range all {
		for _, addr := range a.onLink(t) {
			addrs[addr] = true
		}
	}
	if len(addrs) != n {
		t.Fatalf("addresses: %v", addrs)
	}
	<-unheard

	// Of these, the first two are valid; one of the others' namespaces is gone.
	host.RemoveNetNS(t, all[n-1].netns)
	valid := fmt.Sprintf(`[{"containerID":%q,"ifname":"eth0"},{"containerID":%q,"ifname":"eth0"}]`, all[0].id, all[1].id)
	config := strings.TrimSuffix(all[0].config, "}") + `,"cni.dev/valid-attachments":` + valid + "}"
	if _, failure := execute(t, "GC", "bridge", nil, config); failure != nil {
		t.Fatalf("GC: %v", failure)
	}
	until(t, "releases", func() bool { return server.count("DHCPRELEASE(srv)") == n-3 })
	if left := d.leases(t); len(left) != 2 {
		t.Errorf("leases: %v", left)
	}
	for _, a := range all[:2] {
		if failure := a.check(t); failure != nil {
			t.Errorf("CHECK %s: %v", a.id, failure)
		}
	}
}

package docker

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
	"github.com/plumb-cni/plumb/test/runtimes/node"
)

// TestConnect attaches containers that run, and were made with runc.
func TestConnect(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	p := d.plumb(t)
	d.run(t, "runc", "c1")
	d.run(t, "runc", "c2")
	ns := d.sandbox(t, "c1")

	out := p.Run(t, "connect", "c1", "myptp", "--publish", "8080:80")
	if name, rest, _ := strings.Cut(out, " "); name != "eth0" || !strings.Contains(rest, "10.220.0.") || !strings.Contains(rest, "fd00:220::") {
		t.Errorf("connect says %q", out)
	}
	host.Ping(t, ns, host.Internet4)
	host.Ping(t, ns, host.Internet6)
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "c1")

	p.Run(t, "connect", "c1", "backend", "--ifname", "inner", "--ip", "10.221.0.77", "--mac", "02:00:00:00:00:77")
	if link := host.Links(t, "")["brbackend"]; link.Kind != "bridge" {
		t.Errorf("brbackend: %+v", link)
	}
	if got := d.Run(t, "exec", "c1", "cat", "/sys/class/net/inner/address"); got != "02:00:00:00:00:77" {
		t.Errorf("inner has the address %s", got)
	}
	p.Run(t, "connect", "c2", "backend")
	d.Run(t, "exec", "c2", "ping", "-c", "1", "-W", "2", "10.221.0.77")
	if list := d.list(t); len(list) != 3 {
		t.Errorf("attachments: %+v", list)
	}
	if list := d.list(t, "c2"); len(list) != 1 || list[0].Network != "backend" || list[0].Interface != "eth0" || list[0].State != "attached" || len(list[0].Addresses) != 1 {
		t.Errorf("attachments of c2: %+v", list)
	}
	if out := p.Run(t, "ls"); len(strings.Split(out, "\n")) != 4 || !strings.Contains(out, "10.221.0.77") {
		t.Errorf("ls:\n%s", out)
	}

	d.Run(t, "run", "--detach", "--name", "shares", "--network", "container:c1", image, "sleep", "600")
	d.Run(t, "run", "--detach", "--name", "hosts", "--network", "host", image, "sleep", "600")
	d.Run(t, "create", "--name", "sleeps", "--network", "none", image)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"twice":                {[]string{"connect", "c1", "backend"}, "connected to network \"backend\" already, by interface inner"},
		"interface is taken":   {[]string{"connect", "c1", "named", "--ifname", "inner"}, "already, by interface inner"},
		"unknown container":    {[]string{"connect", "nosuch", "backend"}, "No such container: nosuch"},
		"unknown network":      {[]string{"connect", "c1", "nosuch"}, `find network "nosuch"`},
		"shares":               {[]string{"connect", "shares", "backend"}, "connect that one"},
		"host":                 {[]string{"connect", "hosts", "backend"}, "has the host's network"},
		"doesn't run":          {[]string{"connect", "sleeps", "backend"}, "isn't running"},
		"no portmap":           {[]string{"connect", "c2", "named", "--publish", "80:80"}, "publishes no ports"},
		"not connected":        {[]string{"disconnect", "c2", "myptp"}, "not connected"},
		"another address":      {[]string{"connect", "c2", "broken"}, `network "broken"`},
		"address that is none": {[]string{"connect", "c2", "myptp", "--ip", "10.300.0.1"}, "10.300.0.1"},
	} {
		if _, err := p.Try(c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if list := d.list(t); len(list) != 3 {
		t.Errorf("attachments after refusals: %+v", list)
	}

	p.Run(t, "disconnect", "c1", "myptp")
	node.Silent(t, outside, "tcp", host.Uplink4+":8080")
	if err := host.TryPing(ns, host.Internet4); err == nil {
		t.Error("it reaches the internet after disconnect")
	}
	d.Run(t, "exec", "c2", "ping", "-c", "1", "-W", "2", "10.221.0.77")
	p.Run(t, "disconnect", "c1", "backend", "--ifname", "inner")
	p.Run(t, "disconnect", "c2", "backend")
	gone(t, before)
}

// TestConnectFirst connects a container of plumb-runc's that has no label. It needs no watcher: the hooks do all.
func TestConnectFirst(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.run(t, "plumb", "c1")
	d.plumb(t).Run(t, "connect", "c1", "myptp")
	first := d.list(t)
	d.Run(t, "restart", "--time", "0", "c1")
	host.Ping(t, d.sandbox(t, "c1"), host.Internet4)
	if second := d.list(t); len(second) != 1 || second[0].State != "attached" || second[0].Addresses[0] == first[0].Addresses[0] {
		t.Errorf("before the restart %+v, after it %+v", first, second)
	}
	d.Run(t, "stop", "--time", "0", "c1")
	if list := d.list(t); len(list) != 1 || list[0].State != "stopped" {
		t.Errorf("while it is stopped: %+v", list)
	}
	node.Clean(t, before, "^file "+records)
	d.plumb(t).Run(t, "disconnect", "c1", "myptp")
	gone(t, before)
	if out := d.Run(t, "start", "c1"); out != "c1" {
		t.Error(out)
	}
	if out := d.Run(t, "exec", "c1", "ls", "/sys/class/net"); out != "lo" {
		t.Errorf("after disconnect it starts with %s", out)
	}
}

// TestLabelWins connects a container otherwise than its label says, which says it again at the next start.
func TestLabelWins(t *testing.T) {
	d := install(t)
	before := host.Snapshot(t)
	p := d.plumb(t)
	d.run(t, "plumb", "c1", label("myptp"))
	p.Run(t, "disconnect", "c1", "myptp")
	if _, err := p.Try("connect", "c1", "backend", "--ifname", "eth0"); err == nil || !strings.Contains(err.Error(), `that of network "myptp", by its label`) {
		t.Errorf("an interface that the label names: %v", err)
	}
	p.Run(t, "connect", "c1", "myptp", "--ifname", "other")
	p.Run(t, "connect", "c1", "backend")
	d.Run(t, "restart", "--time", "0", "c1")
	var got []string
	for _, at := range d.list(t) {
		got = append(got, at.Network+" "+at.Interface+" "+at.State)
	}
	if want := []string{"myptp eth0 attached", "backend eth1 attached"}; !slices.Equal(got, want) {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
	d.Run(t, "rm", "--force", "c1")
	// Nobody has said that it will not start again.
	if list := d.list(t, "c1"); len(list) != 1 || list[0].State != "stopped" {
		t.Errorf("of a container that is gone there is, without a watcher, %+v", list)
	}
	p.Run(t, "disconnect", "c1", "backend")
	gone(t, before)
}

// TestRestart restarts containers in every way, attached by hooks and by the watcher.
func TestRestart(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.watch(t)
	d.run(t, "plumb", "hooked", label("myptp"), "--publish", "8080:80", "--restart", "always")
	d.run(t, "runc", "watched", "--restart", "always")
	d.plumb(t).Run(t, "connect", "watched", "myptp", "--publish", "8081:80")
	for name, restart := range map[string]func(c string){
		"docker restart": func(c string) { d.Run(t, "restart", "--time", "0", c) },
		// docker kill is a stop that the policy respects.
		"docker kill and start": func(c string) { d.Run(t, "kill", c); d.Run(t, "start", c) },
		"docker stop and start": func(c string) { d.Run(t, "stop", "--time", "0", c); d.Run(t, "start", c) },
		"the policy":            func(c string) { d.killProcess(t, c) },
	} {
		for _, c := range []string{"hooked", "watched"} {
			old := d.inspect(t, c, "{{.State.StartedAt}}")
			restart(c)
			node.Eventually(t, func() error {
				if now := d.inspect(t, c, "{{.State.Running}} {{.State.StartedAt}}"); !strings.HasPrefix(now, "true") || strings.HasSuffix(now, old) {
					return fmt.Errorf("%s: %s", name, now)
				}
				if list := d.list(t, c); len(list) != 1 || list[0].State != "attached" {
					return fmt.Errorf("%s: %+v", name, list)
				}
				return host.TryPing(d.sandbox(t, c), host.Internet4)
			})
		}
		node.Answers(t, outside, "tcp", host.Uplink4+":8080", "hooked")
		node.Answers(t, outside, "tcp", host.Uplink4+":8081", "watched")
	}
	d.Run(t, "rm", "--force", "hooked", "watched")
	gone(t, before)
}

// killProcess kills a container's process from outside, as the kernel does that has no memory left.
func (d *docker) killProcess(t testing.TB, name string) {
	t.Helper()
	host.Run(t, "kill", "-9", d.inspect(t, name, "{{.State.Pid}}"))
}

// TestWatch has containers end while nobody looks.
func TestWatch(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	connect := func(name, runtime string) {
		t.Helper()
		d.run(t, runtime, name)
		d.plumb(t).Run(t, "connect", name, "myptp")
	}
	w := d.watch(t)
	connect("removed", "runc")
	d.Run(t, "rm", "--force", "removed")
	gone(t, before)

	connect("unseen", "runc")
	connect("stays", "runc")
	connect("again", "runc")
	w.end(t, syscall.SIGKILL)
	d.Run(t, "rm", "--force", "unseen")
	d.Run(t, "restart", "--time", "0", "again")
	if list := d.list(t, "unseen"); len(list) != 1 || list[0].State != "stale" {
		t.Errorf("nobody looks, and yet: %+v", list)
	}
	w.start(t)
	node.Eventually(t, func() error {
		if list := d.list(t, "unseen"); len(list) != 0 {
			return fmt.Errorf("%+v", list)
		}
		return host.TryPing(d.sandbox(t, "again"), host.Internet4)
	})
	host.Ping(t, d.sandbox(t, "stays"), host.Internet4)
	if list := d.list(t); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	d.Run(t, "rm", "--force", "stays", "again")
	gone(t, before)
}

// TestEngineKilled kills the engine, and containers while there is none.
func TestEngineKilled(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	w := d.watch(t)
	d.run(t, "plumb", "hooked", label("myptp"), "--publish", "8080:80")
	d.run(t, "plumb", "always", label("myptp"), "--restart", "always", "--publish", "8081:80")
	d.run(t, "runc", "watched")
	d.plumb(t).Run(t, "connect", "watched", "myptp")
	pid := d.inspect(t, "watched", "{{.State.Pid}}")
	ns := d.sandbox(t, "hooked")

	d.daemon.end(t, syscall.SIGKILL)
	host.Run(t, "kill", "-9", pid)
	// They run on, on their network.
	node.Answers(t, outside, "tcp", host.Uplink4+":8080", "hooked")
	host.Ping(t, ns, host.Internet4)
	d.start(t) // which ends what runs, and starts those of the policy
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", "always")
	node.Eventually(t, func() error {
		var states []string
		for _, at := range d.list(t) {
			states = append(states, at.Container+" "+at.State)
		}
		if got := strings.Join(states, ","); got != "always attached,watched stopped" && got != "watched stopped,always attached" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	node.Silent(t, outside, "tcp", host.Uplink4+":8080")
	if said := w.said(); strings.Count(said, "following the engine") != 2 || strings.Count(said, "the engine is lost") > 3 {
		t.Errorf("the watcher said\n%s", said)
	}

	// And in good order.
	d.daemon.end(t, syscall.SIGTERM)
	d.start(t)
	node.Answers(t, outside, "tcp", host.Uplink4+":8081", "always")
	d.Run(t, "rm", "--force", "hooked", "always", "watched")
	gone(t, before)
}

// TestLiveRestore has an engine that leaves its containers running when it ends.
func TestLiveRestore(t *testing.T) {
	outside := host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.daemon.end(t, syscall.SIGTERM)
	host.Run(t, "sed", "-i", `s|^{|{"live-restore":true,|`, d.dir+"/daemon.json")
	d.start(t)
	w := d.watch(t)
	d.run(t, "plumb", "hooked", label("myptp"), "--publish", "8080:80")
	d.run(t, "runc", "watched")
	d.plumb(t).Run(t, "connect", "watched", "myptp")
	for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		d.daemon.end(t, s)
		node.Answers(t, outside, "tcp", host.Uplink4+":8080", "hooked")
		d.start(t)
		node.Eventually(t, func() error {
			if n := strings.Count(w.said(), "following the engine"); n != i+2 {
				return fmt.Errorf("the watcher has found the engine %d times", n)
			}
			return nil
		})
		node.Answers(t, outside, "tcp", host.Uplink4+":8080", "hooked")
		host.Ping(t, d.sandbox(t, "watched"), host.Internet4)
	}
	if strings.Contains(w.said(), "container") {
		t.Errorf("nothing has changed, and the watcher said\n%s", w.said())
	}
	d.Run(t, "rm", "--force", "hooked", "watched")
	gone(t, before)
}

// TestShimKilled kills what stands between the engine and a container, and so nobody says how it ended.
func TestShimKilled(t *testing.T) {
	host.Internet(t)
	d := install(t)
	before := host.Snapshot(t)
	d.watch(t)
	id := d.run(t, "plumb", "c1", label("myptp"))
	out, err := exec.Command("pgrep", "-f", "containerd-shim-runc-v2 .*"+id).Output()
	if err != nil {
		t.Fatal(err)
	}
	host.Run(t, "kill", "-9", strings.TrimSpace(string(out)))
	gone(t, before)
}

package dnsname_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
	"github.com/plumb-cni/plumb/test/attach"
	"github.com/plumb-cni/plumb/test/host"
)

// A resolver that was killed is started again by the next verb of any network,
// and knows what the one before has known.
func TestKilled(t *testing.T) {
	p, q := newPod(t, 60, 2, "p", ""), newPod(t, 61, 2, "q", "")
	spare := newPod(t, 60, 3, "spare", "")
	for _, tt := range []struct {
		verb string
		call func()
	}{
		{"CHECK", func() { p.Check(t) }},
		{"ADD", func() { newPod(t, 62, 2, "other", "") }},
		{"DEL", func() { spare.Del(t) }},
		{"GC", func() {
			if err := os.Rename(entryFile(t, p), entryFile(t, p)+"x.json"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(entryFile(t, p)+"x.json", entryFile(t, p)); err != nil {
				t.Fatal(err)
			}
			newPod(t, 60, 4, "gone", "")
			kill(t, resolver(t))
			p.GC(t, p.Attachment)
		}},
	} {
		kill(t, resolver(t))
		if got := p.status(t, p.server4(), "p.dns.podman"); got != "no answer" {
			t.Fatalf("a dead resolver says %s", got)
		}
		tt.call()
		t.Log(tt.verb)
		p.knows(t, "p", p.v4, p.v6)
		q.knows(t, "q", q.v4, q.v6)
	}
	if got := p.status(t, p.server4(), "gone.dns.podman"); got != "NXDOMAIN" {
		t.Errorf("what GC has collected is %s", got)
	}

	// The last DEL cleans up after a dead one.
	q.Del(t)
	newPod(t, 62, 3, "last", "").Del(t)
	kill(t, resolver(t))
	p.Del(t)
	p.GC(t)
	(&attach.Attachment{Config: strings.ReplaceAll(p.Config, "net60", "net62"), Bin: p.Bin}).GC(t)
	nothing(t)
}

func entryFile(t *testing.T, p *pod) string {
	t.Helper()
	return filepath.Join(folder(t), fmt.Sprintf("net%d@%s@%s.json", p.number, p.ID, p.IfName))
}

// A resolver that is told to end does, and leaves what the next one needs.
func TestTerminated(t *testing.T) {
	p := newPod(t, 60, 2, "p", "")
	pid := resolver(t)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the resolver to end", func() bool { return len(resolvers(t)) == 0 })
	p.Check(t)
	p.knows(t, "p", p.v4, p.v6)
	p.Del(t)
	nothing(t)
}

// After an upgrade the resolver is of the new program, and the same process.
func TestUpgraded(t *testing.T) {
	bin := t.TempDir()
	host.Run(t, "sh", "-c", `cp -a "$0"/* "$1"`, host.Bin(t), bin)
	p := unnamed(t, 60, 2)
	p.name(t, "p", "")
	p.Bin = bin
	p.Add(t)
	pid := resolver(t)
	host.Run(t, "sh", "-ec", `cd "$0"; cp plumb-tool new; mv new plumb-tool`, bin)
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	if now, err := os.Readlink(exe); !strings.HasSuffix(now, " (deleted)") {
		t.Fatalf("the program is %s (%v), so nothing is tried here", now, err)
	}
	p.Check(t)
	if now, err := os.Readlink(exe); now != filepath.Join(bin, "plumb-tool") || resolver(t) != pid {
		t.Errorf("the program is %s (%v), of process %d, was %d", now, err, resolver(t), pid)
	}
	p.knows(t, "p", p.v4, p.v6)
	for range 3 { // nothing stays open from one to the next
		host.Run(t, "sh", "-ec", `cd "$0"; cp plumb-tool new; mv new plumb-tool`, bin)
		p.Check(t)
	}
	fewSockets(t, pid)
	p.Del(t)
	nothing(t)
}

// fewSockets waits until a resolver of one network has closed the connections of
// its callers, who have their answers before.
func fewSockets(t testing.TB, pid int) {
	t.Helper()
	waitFor(t, "five sockets: its own and two for each address", func() bool {
		return strings.TrimSpace(host.Run(t, "sh", "-c", fmt.Sprintf("ls -l /proc/%d/fd | grep -c socket:", pid))) == "5"
	})
}

// A resolver that has done much has no more open than one that has done little,
// and no less.
func TestOften(t *testing.T) {
	p := newPod(t, 60, 2, "p", "")
	pid := resolver(t)
	for range 300 {
		p.Add(t)
	}
	p.Check(t)
	p.knows(t, "p", p.v4, p.v6)
	fewSockets(t, pid)
	if now := resolver(t); now != pid {
		t.Errorf("the resolver is %d, was %d", now, pid)
	}
}

// Many containers that come and go at once have one resolver, and in the end
// none.
func TestAtOnce(t *testing.T) {
	const pods = 8
	var all []*pod
	for i := range pods {
		p := unnamed(t, 60+i%2, 2+i)
		p.name(t, fmt.Sprintf("p%d", i), "")
		all = append(all, p)
	}
	for range 5 {
		var group sync.WaitGroup
		for _, p := range all {
			group.Go(func() { p.Add(t) })
		}
		group.Wait()
		resolver(t)
		for i, p := range all {
			if got := p.short(t, p.server4(), fmt.Sprintf("p%d", (i+2)%pods)); got != all[(i+2)%pods].v4 {
				t.Errorf("p%d is %q", (i+2)%pods, got)
			}
		}
		for _, p := range all {
			group.Go(func() { p.Del(t) })
		}
		group.Wait()
		nothing(t)
	}
	// In any order.
	var group sync.WaitGroup
	for _, p := range all {
		group.Go(func() {
			for range 20 {
				p.Add(t)
				p.Del(t)
			}
		})
	}
	group.Wait()
	nothing(t)
}

// The resolver has nothing of whoever called: no open file, no session, no
// folder, and no cgroup but the root.
func TestDetached(t *testing.T) {
	p := unnamed(t, 60, 2)
	p.name(t, "p", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	config := attach.Derive(t, p.Config, map[string]any{"prevResult": p.bridge.Prev})
	cmd := exec.Command("sh", "-c", `[ -z "$1" ] || echo $$ >"$1"; exec "$0"`, filepath.Join(p.Bin, "dnsname"), cgroup(t))
	cmd.Env = append(host.Env("ADD", p.ID, p.NetNS, p.IfName, p.Bin), "CNI_ARGS="+p.Args)
	cmd.Dir = t.TempDir()
	cmd.Stdin, cmd.ExtraFiles = strings.NewReader(config), []*os.File{w, w, w}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out // of pipes, whose end Run waits for
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("whoever reads the plugin's output waits %v", took)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("a pipe that the plugin inherited is still open: %v", err)
	}
	p.knows(t, "p", p.v4, p.v6)

	pid := resolver(t)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// proc_pid_stat(5): state, parent, group and session follow the name.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if own := fmt.Sprint(pid); fields[2] != own || fields[3] != own {
		t.Errorf("its group is %s and its session %s, want its own", fields[2], fields[3])
	}
	for link, want := range map[string]string{"cwd": "/", "fd/0": "/dev/null", "fd/1": "/dev/null", "fd/2": "/dev/null"} {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, link)); got != want {
			t.Errorf("%s is %q (%v), want %q", link, got, err, want)
		}
	}
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(cgroups), "plumb-test") {
		t.Errorf("its cgroups are\n%s", cgroups)
	}
	p.Del(t)
	nothing(t)
}

// cgroup makes a cgroup and returns the file that takes its processes, "" where
// cgroups are not to be seen or not to be changed.
func cgroup(t *testing.T) string {
	t.Helper()
	// The private host has a sysfs of its own, without the hierarchies.
	dir := t.TempDir()
	if err := syscall.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Logf("no cgroup to leave: %v", err)
		return ""
	}
	group := filepath.Join(dir, fmt.Sprintf("plumb-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(group, "cgroup.procs")
}

// Where somebody else answers at the gateway, ADD says so and leaves nothing.
func TestTaken(t *testing.T) {
	for _, address := range []string{"10.60.0.1", "0.0.0.0"} {
		t.Run(address, func(t *testing.T) {
			p := unnamed(t, 60, 2)
			serve(t, address, nil)
			p.name(t, "p", "")
			_, failure := p.TryAdd(t)
			if failure == nil || failure.Code != state.CodeConflict || !strings.Contains(failure.Msg, "10.60.0.1:53 is taken") || !strings.Contains(failure.Msg, "ss -lnp") {
				t.Errorf("ADD: %v", failure)
			}
			waitFor(t, "the resolver to end", func() bool { return len(resolvers(t)) == 0 })
			if dir := folder(t); dir != "" {
				t.Errorf("there is %s", dir)
			}
		})
	}
}

// What the configuration can't mean is refused, and what is missing is said.
func TestRefused(t *testing.T) {
	p := unnamed(t, 60, 2)
	for _, tt := range []struct{ keys, want string }{
		{`,"domainName":""`, "domainName is missing"},
		{`,"domainName":"no domain"`, "no name of a domain"},
		{`,"domainName":"` + strings.Repeat("d", 64) + `"`, "no name of a domain"},
		{`,"remoteServers":["resolver.example"]`, "is no server"},
		{`,"remoteServers":["192.0.2.1#dns"]`, "is no server"},
	} {
		p.name(t, "p", tt.keys)
		_, failure := p.TryAdd(t)
		if failure == nil || failure.Code != cni.CodeInvalidConfig || !strings.Contains(failure.Msg, tt.want) {
			t.Errorf("%s: %v", tt.keys, failure)
		}
	}
	nothing(t)

	// Without plumb there is no resolver.
	bin := t.TempDir()
	host.Run(t, "cp", "-a", p.Bin+"/plumb-cni", p.Bin+"/dnsname", bin)
	p.name(t, "p", "")
	p.Bin = bin
	_, failure := p.TryAdd(t)
	if failure == nil || failure.Code != cni.CodeUnavailable || !strings.Contains(failure.Msg, bin+"/plumb") {
		t.Errorf("ADD without plumb: %v", failure)
	}
	if failure := p.TryStatus(t); failure == nil || failure.Code != cni.CodeUnavailable {
		t.Errorf("STATUS without plumb: %v", failure)
	}
	p.Del(t)
	p.Bin = host.Bin(t)
	if failure := p.TryStatus(t); failure != nil {
		t.Errorf("STATUS: %v", failure)
	}
}

// CHECK names what is wrong, and ADD mends it.
func TestDamage(t *testing.T) {
	p := newPod(t, 60, 2, "p", "")
	for _, tt := range []struct{ damage, want string }{
		{"rm " + entryFile(t, p), "is missing"},
		{`sed -i 's/"p"/"x"/' ` + entryFile(t, p), "names is [x], want [p]"},
		{"ip link set br60 down; ip addr del 10.60.0.1/24 dev br60; ip link set br60 up", ""},
	} {
		if tt.want == "" {
			host.Run(t, "sh", "-ec", tt.damage)
			if failure := p.TryCheck(t); failure == nil || failure.Code != state.CodeDrift {
				t.Errorf("CHECK after %s: %v", tt.damage, failure)
			}
			continue
		}
		p.Check(t)
		host.Run(t, "sh", "-ec", tt.damage)
		if got := p.Drifts(t, state.CodeDrift); !strings.Contains(got, tt.want) {
			t.Errorf("CHECK says %q, want %q", got, tt.want)
		}
		p.Add(t)
	}
}

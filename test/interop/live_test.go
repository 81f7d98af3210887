package interop

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

// A node with running containers of the whole chain is switched to our plugins,
// in place, and back again. Nothing of the traffic of a container that runs all the time is lost:
// pings from it and to it, a connection and datagrams to its published ports, and a connection of its own.
func TestLiveSwitch(t *testing.T) {
	host.Internet(t)
	for _, backend := range reference.backends {
		t.Run(backend, func(t *testing.T) {
			n := fullNetwork(cni.V110, backend)
			n.fresh(t)
			before := host.Snapshot(t)
			cache, bin := t.TempDir(), t.TempDir()
			host.Run(t, "cp", "-a", reference.bin(t)+"/.", bin)
			installed := implementation{bin: func(testing.TB) string { return bin }}
			plugins := func(args ...string) string {
				t.Helper()
				return host.Run(t, filepath.Join(ours.bin(t), "plumb"), append([]string{"plugins"}, args...)...)
			}
			theirs, mine := newOfficial(t, cache, installed), newPlumb(t, cache, installed)
			port := 8000
			add := func(c caller, name string) (attachment, []string) {
				t.Helper()
				n := n.publishing(port)
				port += 100
				at := n.attachment(t, name)
				result, err := c.add(n.list(), at)
				must(t, "ADD of "+name, err)
				n.reach(t, at.ns)
				return at, addressesOf(t, result)
			}

			stays, addrs := add(theirs, "stays")
			neighbour, neighbours := add(theirs, "neighbour")
			goes, _ := add(theirs, "goes")
			stop := []func(){
				traffic(t, stays.ns, append(neighbours, host.Internet4, host.Internet6)...),
				traffic(t, "", addrs...),
				flow(t, "internet", "tcp4", net.JoinHostPort(host.Uplink4, "8000"), stays.ns, ":80"),
				flow(t, "internet", "udp6", net.JoinHostPort(host.Uplink6, "8001"), stays.ns, ":53"),
				flow(t, stays.ns, "tcp4", net.JoinHostPort(host.Internet4, strconv.Itoa(port)), "internet", ":"+strconv.Itoa(port)),
			}

			plugins("install", "--force", bin)
			for _, at := range []attachment{stays, neighbour, goes} {
				must(t, "CHECK", mine.check(n.list(), at))
			}
			lives, _ := add(mine, "lives")
			ends, _ := add(mine, "ends")
			must(t, "CHECK of ours", mine.check(n.list(), lives))
			must(t, "DEL of theirs", mine.del(n.list(), goes))
			must(t, "DEL of ours", mine.del(n.list(), ends))
			lost, _ := add(mine, "lost")
			must(t, "GC", mine.gc(n.list(), stays, neighbour, lives))
			for _, at := range []attachment{stays, neighbour, lives} {
				must(t, "CHECK after GC", mine.check(n.list(), at))
			}
			if left := leftOf(t, lost); left != nil {
				t.Errorf("GC left\n%s", strings.Join(left, "\n"))
			}

			out := plugins("remove", bin)
			if !strings.Contains(out, "kept what "+networkName+"/"+lives.id) {
				t.Errorf("plumb plugins remove doesn't tell what it keeps:\n%s", out)
			}
			back, _ := add(theirs, "back")
			must(t, "CHECK of theirs", theirs.check(n.list(), stays))
			must(t, "DEL of ours by theirs", theirs.del(n.list(), lives))
			must(t, "DEL of theirs by theirs", theirs.del(n.list(), back))
			plugins("remove", bin)
			for _, line := range host.Snapshot(t) {
				if strings.Contains(line, "plumb") {
					t.Errorf("plumb plugins remove left %s", line)
				}
			}
			if same, err := host.Try("diff", "-r", bin, reference.bin(t)); err != nil {
				t.Errorf("the plugins are not the reference's again: %v\n%s", err, same)
			}
			for _, f := range slices.Backward(stop) {
				f()
			}
			for _, at := range []attachment{stays, neighbour} {
				must(t, "last DEL", theirs.del(n.list(), at))
			}
			nothingLeft(t, before)
		})
	}
	fresh(t)
}

// flow keeps a conversation going until the returned function is called, which
// fails the test when anything of it was lost: a hundred times a second a client in one namespace says a
// number over one connection, which a server in the other, that listens on an address, repeats.
func flow(t *testing.T, from, network, to, serverNS, listen string) (stop func()) {
	t.Helper()
	var server io.Closer
	var client net.Conn
	err := host.In(t, serverNS, func() (err error) {
		server, err = repeat(network, listen)
		return err
	})
	if err == nil {
		err = host.In(t, from, func() (err error) {
			client, err = net.DialTimeout(network, to, 5*time.Second)
			return err
		})
	}
	if err != nil {
		t.Fatalf("flow %s to %s: %v", network, to, err)
	}
	end, ended := make(chan struct{}), make(chan error, 1)
	count := uint64(0)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				ended <- nil
				return
			case <-tick.C:
			}
			count++
			if err := converse(client, count); err != nil {
				ended <- fmt.Errorf("number %d: %w", count, err)
				return
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		t.Helper()
		close(end)
		if err := <-ended; err != nil || count < 10 {
			t.Errorf("flow %s to %s: %d numbers, %v", network, to, count, err)
		}
		client.Close()
		server.Close()
	})
	t.Cleanup(stop)
	return stop
}

// converse says a number and waits for it to come back, for less long than TCP
// takes to send a second time what was lost twice.
func converse(c net.Conn, number uint64) error {
	said := binary.BigEndian.AppendUint64(nil, number)
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(heard); got != number {
		return fmt.Errorf("%d came back", got)
	}
	return nil
}

// repeat starts a server that sends back what it receives.
func repeat(network, address string) (io.Closer, error) {
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			return nil, err
		}
		go func() {
			buf := make([]byte, 64)
			for {
				n, peer, err := c.ReadFrom(buf)
				if err != nil {
					return // closed
				}
				c.WriteTo(buf[:n], peer) //nolint:errcheck // the client notices
			}
		}()
		return c, nil
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				io.Copy(c, c) //nolint:errcheck // until the client ends it
				c.Close()
			}()
		}
	}()
	return l, nil
}

package bandwidth_test

import (
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// serve starts iperf3 on the host for one measurement, and returns its port: one of its own, since the server of the
// measurement before may not have ended yet.
func serve(t *testing.T) (port string) {
	t.Helper()
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port = fmt.Sprint(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	server := exec.Command("iperf3", "-s", "-1", "-p", port)
	if err := server.Start(); err != nil {
		t.Fatalf("%v: scripts/deps installs it", err)
	}
	t.Cleanup(func() {
		server.Process.Kill() //nolint:errcheck // it has ended by itself, if the test went well
		server.Wait()         //nolint:errcheck // its status says nothing
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if out := host.Run(t, "ss", "-Hltn", "sport", "=", ":"+port); out != "" {
			return port
		}
		if time.Now().After(deadline) {
			t.Fatal("iperf3 doesn't listen")
		}
	}
}

package bandwidth_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// serve starts iperf3 on the host for one measurement.
func serve(t *testing.T) {
	t.Helper()
	server := exec.Command("iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		t.Fatalf("%v: scripts/deps installs it", err)
	}
	t.Cleanup(func() {
		server.Process.Kill() //nolint:errcheck // it has ended by itself, if the test went well
		server.Wait()         //nolint:errcheck // its status says nothing
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if out := host.Run(t, "ss", "-Hltn", "sport", "=", ":5201"); out != "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("iperf3 doesn't listen")
		}
	}
}

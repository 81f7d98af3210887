package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

// writerEnv makes TestCacheWriter write to the cache in that folder until it is
// killed.
const writerEnv = "RUNTIME_TEST_CACHE"

func TestCacheWriter(t *testing.T) {
	dir := os.Getenv(writerEnv)
	if dir == "" {
		return // it is the writer of the test below, and no test
	}
	for i := 0; ; i++ {
		// Each is much longer or shorter than what it replaces.
		a := &CachedAttachment{Network: "net", Attachment: Attachment{ContainerID: "c1", IfName: "eth0"},
			Config: []byte(`{"pad":"` + strings.Repeat("x", i%2<<16) + `"}`), Result: &cni.Result{}}
		if err := (cache{dir}).write(a, cni.Latest); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCacheNeverHalfWritten reads while another process writes, which is killed
// at any moment.
func TestCacheNeverHalfWritten(t *testing.T) {
	c := cache{t.TempDir()}
	last, changes := 0, 0 // the configuration's length, and how often another was read
	read := func() {
		found := c.find("net", Attachment{ContainerID: "c1", IfName: "eth0"})
		if found.err != nil {
			t.Fatal(found.err)
		}
		if found.attachment != nil {
			if n := len(found.attachment.Config); n != last {
				last = n
				changes++
			}
		}
		all, err := c.all()
		if err != nil || len(all) > 1 {
			t.Fatalf("the folder has %d attachments, %v", len(all), err)
		}
	}
	for i := range 20 {
		writer := exec.Command("/proc/self/exe", "-test.run=^TestCacheWriter$")
		writer.Env = append(os.Environ(), writerEnv+"="+c.dir)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { writer.Process.Kill(); writer.Wait() })
		changes = 0
		for end := time.Now().Add(time.Minute); changes < 3+i && time.Now().Before(end); {
			read()
		}
		if changes < 3+i {
			t.Fatalf("the file changed %d times in a minute", changes)
		}
		writer.Process.Kill() //nolint:errcheck // Wait says
		if err := writer.Wait(); fmt.Sprint(err) != "signal: killed" {
			t.Fatalf("the writer ended: %v", err)
		}
		read()
	}
}

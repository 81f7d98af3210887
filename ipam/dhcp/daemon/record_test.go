package daemon

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/state"
)

// TestClock has the machine's clock set between two daemons: a lease holds for as
// long as the server has said, not longer, and is not given up sooner.
func TestClock(t *testing.T) {
	s := store{t.TempDir()}
	got := time.Now()
	r := &record{Boot: "b", Owner: state.Owner{Network: "n", ContainerID: "c", IfName: "eth0"}, V4: new(lease)}
	r.V4.times(got, 0, 0, time.Hour)
	if err := s.save(r); err != nil {
		t.Fatal(err)
	}
	for _, set := range []time.Duration{0, -100 * time.Hour, 100 * time.Hour} {
		data, err := os.ReadFile(s.path(r.Owner))
		if err != nil {
			t.Fatal(err)
		}
		on := new(record)
		if err := json.Unmarshal(data, on); err != nil {
			t.Fatal(err)
		}
		// As if the clock had been wrong until now, and the machine up for longer by ten minutes.
		on.Saved, on.Uptime = on.Saved.Add(set), on.Uptime-10*time.Minute
		on.V4 = on.V4.as(got, got.Add(set))
		if data, err = json.Marshal(on); err != nil {
			t.Fatal(err)
		}
		other := store{t.TempDir()}
		if err := os.WriteFile(other.path(r.Owner), data, 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := other.load("b")
		if err != nil || len(read) != 1 {
			t.Fatal(read, err)
		}
		if d := time.Until(read[0].V4.Expire) - 50*time.Minute; d.Abs() > time.Minute {
			t.Errorf("clock set by %v: expires %v off", -set, d)
		}
	}
}

// TestNoLease is a server that gives an address for no time: it is not asked without a pause.
func TestNoLease(t *testing.T) {
	l := new(lease)
	got := time.Now()
	l.times(got, 0, 0, 0)
	if l.Renew.Sub(got) < minPause/2 || !l.Renew.Before(l.Rebind) || !l.Rebind.Before(l.Expire) {
		t.Errorf("renewed after %v, rebound after %v, given up after %v", l.Renew.Sub(got), l.Rebind.Sub(got), l.Expire.Sub(got))
	}
}

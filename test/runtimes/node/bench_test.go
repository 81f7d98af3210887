package node

import "testing"

func TestCompare(t *testing.T) {
	for _, x := range []struct {
		share, first float64
		target       int
		want         string
	}{
		{185, 185, 0, "185\t1.0"},
		{33, 185, 5, "33\t5.6\tat least 5: met"},
		{93, 185, 5, "93\t2.0\tat least 5: MISSED"},
		{-15, 185, 5, "none\t\tat least 5: met"}, // the noise of the rest is more
	} {
		if got := compare(x.share, x.first, x.target); got != x.want {
			t.Errorf("%v of %v: %q, want %q", x.share, x.first, got, x.want)
		}
	}
}

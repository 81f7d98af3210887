package nftconn

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"
)

// attempts is how often a change is tried anew because somebody else's came in
// between. One of the contenders always succeeds, so it is only a bound.
const attempts = 100

var errContention = errors.New("nftables keeps changing")

// Retry calls change, which reads and commits, until nobody else's change came
// in between: until its error matches neither ErrChanged nor what a commit
// fails with if something has just gone or come. In between it waits, longer
// and more randomly from one to the next.
func Retry(ctx context.Context, change func() error) (err error) {
	for attempt := range attempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		err = change()
		if !errors.Is(err, ErrChanged) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		time.Sleep(rand.N(time.Duration(min(attempt+1, 20)) * 100 * time.Microsecond))
	}
	return errors.Join(errContention, err)
}

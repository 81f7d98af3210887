package nftconn

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// attempts is how often a change is tried anew because somebody else's came in
// between. One of the contenders always succeeds, so it is only a bound.
const attempts = 100

var errContention = errors.New("nftables keeps changing")

// Retry calls change, which reads and commits, until nobody else's change came
// in between: until its error matches neither ErrChanged nor what a commit
// fails with if something has just gone or come. In between it waits, longer
// and more randomly from one to the next. An error that matches ErrUnsupported
// is final.
func Retry(ctx context.Context, change func() error) (err error) {
	for attempt := range attempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		err = change()
		if errors.Is(err, ErrUnsupported) || !errors.Is(err, ErrChanged) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(time.Duration(min(attempt+1, 20)) * 100 * time.Microsecond)):
		}
	}
	return errors.Join(errContention, err)
}

// CommitInto is Commit of a guarded transaction that, if the table was not
// found, makes it and all else that it needs. Nothing but a part of the kernel
// can be missing then: the error matches ErrUnsupported.
func (c *Conn) CommitInto(ctx context.Context, table *TableQuery, t *Tx) error {
	err := c.Commit(ctx, t)
	if !table.Found && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP)) {
		err = errors.Join(ErrUnsupported, err)
	}
	return err
}

package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"
)

// resend is how long to wait for an answer before the message is sent again,
// the first time; then twice as long, up to maxResend. RFC 2131 section 4.1
// suggests 4 seconds, but a container waits, and the first frame is often lost:
// a switch's port takes a moment from its link's coming up until it forwards.
const (
	resend    = 250 * time.Millisecond
	maxResend = 16 * time.Second
)

// An exchange sends a message, and again, until an answer is taken.
type exchange struct {
	conn    interface{ SetReadDeadline(time.Time) error }
	send    func() error
	receive func() (taken bool, err error) // one message
}

// run fails with the context's cause when that ends first, and with the error
// of send or receive.
func (e exchange) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = e.conn.SetReadDeadline(time.Unix(1, 0)) })()
	for wait := resend; ; wait = min(2*wait, maxResend) {
		if err := e.send(); err != nil {
			return err
		}
		taken, err := e.await(ctx, time.Now().Add(jitter(wait)))
		if taken || err != nil {
			return err
		}
	}
}

// await receives until an answer is taken, or a time has come.
func (e exchange) await(ctx context.Context, until time.Time) (bool, error) {
	if err := e.conn.SetReadDeadline(until); err != nil {
		return false, err
	}
	for {
		if ctx.Err() != nil { // asked after the deadline is set, which its end moves
			return false, context.Cause(ctx)
		}
		taken, err := e.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return false, nil
		}
		if taken || err != nil && ctx.Err() == nil {
			return taken, err
		}
	}
}

// jitter returns a duration that differs by up to a tenth, so that many
// containers that start together don't ask together for ever.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()*2-1)*float64(d)/10)
}

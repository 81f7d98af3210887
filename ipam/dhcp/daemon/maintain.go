package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lookEvery is how often the interface of a lease is looked for, so that one
// that is gone is not kept for as long as the lease.
const lookEvery = time.Minute

// Bounds of the pause between attempts to prolong a lease (RFC 2131 section
// 4.4.5: half of the time that is left, but not less than a minute; which is too
// long for leases of minutes).
const (
	minPause      = time.Second
	maxPause      = time.Minute
	pausesOfLease = 20
)

// maintain keeps a lease until the context ends, or the interface is gone.
func (a *attachment) maintain(ctx context.Context, f family) error {
	for {
		l := a.get(f)
		now := time.Now()
		if l.Lost != "" || !now.Before(l.Expire) {
			if err := a.regain(ctx, f, "it has expired"); err != nil {
				return err
			}
			continue
		}
		if now.Before(l.Renew) {
			if err := sleep(ctx, min(time.Until(l.Renew), lookEvery)); err != nil {
				return err
			}
			if err := a.with(func(*port) error { return nil }); errors.Is(err, errGone) {
				return err
			}
			continue
		}
		if err := a.prolong(ctx, f, l); err != nil {
			return err
		}
	}
}

// prolong tries once to renew a lease or, past T2, to rebind it, and pauses if
// that fails.
func (a *attachment) prolong(ctx context.Context, f family, l *lease) error {
	rebind := !time.Now().Before(l.Rebind)
	until := l.Rebind
	if rebind {
		until = l.Expire
	}
	attempt, cancel := context.WithDeadline(ctx, earlier(until, time.Now().Add(a.daemon.Timeout)))
	defer cancel()
	err := a.with(func(p *port) error {
		renewed, err := f.renew(attempt, p, l, rebind)
		if err != nil {
			return err
		}
		a.logf("%s renewed until %s", renewed.Address, renewed.Expire.Format(time.RFC3339))
		return a.set(f, renewed)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errGone) || ctx.Err() != nil:
		return err
	case errors.Is(err, errRefused):
		return a.regain(ctx, f, err.Error())
	}
	a.logf("%s not renewed: %v", l.Address, err)
	least := min(max(l.Expire.Sub(l.Renew)/pausesOfLease, minPause), maxPause)
	return sleep(ctx, min(max(time.Until(until)/2, least), max(time.Until(until), 0)))
}

// regain asks for an address anew that the attachment has no right to any more.
// There is no way to tell a runtime of another address, so it has to be the
// same. Until it is, it is not on the interface: it may be somebody else's.
func (a *attachment) regain(ctx context.Context, f family, why string) error {
	old := a.get(f)
	a.logf("%s lost: %s", old.Address, why)
	lost := *old
	lost.Lost = why
	if err := a.set(f, &lost); err != nil {
		a.logf("%v", err) // no reason to leave the address where it is
	}
	var taken *withdrawn
	for pause := minPause; ; pause = min(2*pause, a.daemon.ResendMax) {
		attempt, cancel := context.WithTimeout(ctx, a.daemon.Timeout)
		err := a.with(func(p *port) error {
			got, err := f.acquire(attempt, p, old.Address.Addr())
			if err == nil && got.Address.Addr() != old.Address.Addr() {
				err = errors.Join(fmt.Errorf("the server gives %s instead", got.Address.Addr()), f.release(ctx, p, got))
			}
			if err == nil {
				got.Address = old.Address
				a.logf("%s regained until %s", got.Address, got.Expire.Format(time.RFC3339))
				return errors.Join(p.restore(taken), a.set(f, got))
			}
			w, withdrawal := p.withdraw(old.Address.Addr())
			if w != nil {
				taken = w
				a.logf("%s taken from the interface", old.Address)
			}
			return errors.Join(err, withdrawal)
		})
		cancel()
		if err == nil || errors.Is(err, errGone) || ctx.Err() != nil {
			return err
		}
		a.logf("%s not regained: %v", old.Address, err)
		if err := sleep(ctx, jitter(pause)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

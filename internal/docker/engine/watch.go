package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

const (
	// reconnectMin and reconnectMax bound the pause before the engine is
	// called again after it was lost.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 5 * time.Second

	// retryAfter is when containers are looked after again of which one
	// could not be.
	retryAfter = 5 * time.Second

	// atOnce is how many containers are looked after at the same time.
	atOnce = 8
)

// Watch looks after the attachments of all containers until the context ends: of
// those that are gone, that stop and that are restarted, also of what happened
// before it was called and while the engine could not be reached. logf is told
// what it does.
func (e *Engine) Watch(ctx context.Context, logf func(format string, args ...any)) error {
	pause := reconnectMin
	lost := ""
	for {
		followed, err := e.follow(ctx, logf)
		if ctx.Err() != nil {
			return nil
		}
		if followed {
			pause, lost = reconnectMin, ""
		}
		if err.Error() != lost { // once, not at every attempt
			lost = err.Error()
			logf("the engine is lost: %v", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, reconnectMax)
	}
}

// follow looks after all containers once, and then after each that an event
// tells of, until the engine is lost. followed says that it was there.
func (e *Engine) follow(ctx context.Context, logf func(string, ...any)) (followed bool, err error) {
	root, err := e.root(ctx)
	if err != nil {
		return false, err
	}
	var running sync.WaitGroup
	defer running.Wait()
	// The stream is asked for first, so that nothing happens unseen in between.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := e.client.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).
		Add("type", string(events.ContainerEventType)).
		Add("event", string(events.ActionStart), string(events.ActionDie), string(events.ActionDestroy))})
	logf("following the engine of %s", root)

	slots := make(chan struct{}, atOnce)
	failed := make(chan struct{}, 1)
	// The engine drops those that don't read its events at once.
	settle := func(id string) {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := e.settle(ctx, root, id, logf); err != nil && ctx.Err() == nil {
				logf("container %s: %v", id, err)
				select {
				case failed <- struct{}{}:
				default:
				}
			}
		})
	}
	all := func() {
		ids, err := e.attacher.Records.Containers()
		if err != nil {
			logf("%v", err)
		}
		for _, id := range ids {
			settle(id)
		}
	}
	all()
	var retry <-chan time.Time
	for {
		select {
		case event := <-stream.Messages:
			settle(event.Actor.ID)
		case <-failed:
			if retry == nil {
				retry = time.After(retryAfter)
			}
		case <-retry:
			retry = nil
			all()
		case err := <-stream.Err:
			if err == nil {
				err = errors.New("it closed the stream of events")
			}
			return true, err
		}
	}
}

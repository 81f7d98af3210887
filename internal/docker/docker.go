// Package docker attaches Docker's containers to CNI networks: when they start,
// through hooks that an OCI runtime wrapper puts into their bundle, and while
// they run.
//
// It reads what the engine keeps on disk of a container and never asks the
// engine itself, which answers no question about a container while it starts
// it. What needs the engine's interface is in package engine.
package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/runtime"
)

// Where things are if nobody says otherwise.
const (
	DefaultNetDir  = "/etc/cni/net.d"
	DefaultPath    = "/opt/cni/bin"
	DefaultRecords = "/var/lib/cni/docker"
)

// ErrNotConnected says that a container is not on a network.
var ErrNotConnected = errors.New("not connected")

// An Attacher attaches containers to networks. Its methods may be called
// concurrently, by several processes too: they take turns for each container.
type Attacher struct {
	Runtime *runtime.Runtime
	NetDir  string // folder of network configurations
	Records Records
}

// Start attaches a container that is about to start to the networks that its
// labels name, and to those that it was connected to when it ran before. netns
// is its new namespace. What is left of an earlier one goes first. If one network
// fails, the container is on none.
func (a *Attacher) Start(ctx context.Context, c *Container, netns string) (err error) {
	wants, err := c.Wants()
	if err != nil {
		return err
	}
	unlock, err := a.Records.Lock(ctx, c.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	old, err := a.Records.whole(c.ID)
	if err != nil {
		return err
	}
	var again []*Record
	for _, r := range slices.Backward(old) {
		keep := r.Live && !slices.ContainsFunc(wants, func(w Want) bool { return w.Network == r.Network })
		if err := a.detach(ctx, r, keep); err != nil {
			return err
		}
		if keep {
			again = append(again, r)
		}
	}
	slices.Reverse(again)
	plan, err := a.plan(c, wants, again)
	if err != nil {
		return err
	}
	return a.attachAll(ctx, c, netns, plan)
}

// attachAll makes all of the attachments, or none.
func (a *Attacher) attachAll(ctx context.Context, c *Container, netns string, plan []planned) error {
	var err error
	var dns cni.DNS
	made := 0
	for _, p := range plan {
		var result *cni.Result
		if result, err = a.attach(ctx, c, netns, p); err != nil {
			break
		}
		dns = mergeDNS(dns, result.DNS)
		made++
	}
	if err == nil {
		if err = c.writeDNS(dns); err == nil {
			return nil
		}
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	errs := []error{err}
	for _, p := range slices.Backward(plan[:made]) {
		errs = append(errs, a.detach(undo, p.record, p.record.Live))
	}
	return errors.Join(errs...)
}

// undoTime is how long the undo of a start may take whose own time is over.
const undoTime = 30 * time.Second

// Stop takes a container out of all networks whose namespace is gone or going.
// Those that it was connected to while it ran are remembered for its next start,
// unless it is to be forgotten.
func (a *Attacher) Stop(ctx context.Context, id string, forget bool) error {
	return a.end(ctx, id, forget, func(*Record) bool { return true })
}

// End is Stop for records that were read before, and does nothing to one that
// was written again meanwhile: the container is starting.
func (a *Attacher) End(ctx context.Context, id string, seen []*Record) error {
	return a.end(ctx, id, false, func(r *Record) bool { return slices.ContainsFunc(seen, r.same) })
}

func (a *Attacher) end(ctx context.Context, id string, forget bool, which func(*Record) bool) (err error) {
	unlock, err := a.Records.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	records, err := a.Records.whole(id)
	errs := []error{err}
	for _, r := range slices.Backward(records) {
		if which(r) {
			errs = append(errs, a.detach(ctx, r, r.Live && !forget))
		}
	}
	return errors.Join(errs...)
}

// Settle looks after a container that runs, given its records as they were
// read before: attachments of a namespace that it had before are removed, and made
// anew in this one if it was connected to the network while it ran. It returns
// the networks that it was attached to.
func (a *Attacher) Settle(ctx context.Context, c *Container, netns string, seen []*Record) (attached []string, err error) {
	now, err := identify(netns)
	if err != nil {
		return nil, err
	}
	unlock, err := a.Records.Lock(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	records, err := a.Records.whole(c.ID)
	errs := []error{err}
	for _, r := range records {
		if r.NetNS != "" && r.NS == now || !slices.ContainsFunc(seen, r.same) {
			continue
		}
		err := a.detach(ctx, r, r.Live)
		if err == nil && r.Live {
			var plan []planned
			if plan, err = a.plan(c, nil, []*Record{r}); err == nil {
				_, err = a.attach(ctx, c, netns, plan[0])
			}
			if err == nil {
				attached = append(attached, r.Network)
			}
		}
		errs = append(errs, err)
	}
	return attached, errors.Join(errs...)
}

// Connect attaches a running container to a network. It stays connected, over
// restarts too, until Disconnect or until it is removed.
func (a *Attacher) Connect(ctx context.Context, c *Container, netns string, w Want) (r *Record, result *cni.Result, err error) {
	if err := errors.Join(w.Validate(), c.ownNetwork()); err != nil {
		return nil, nil, err
	}
	now, err := identify(netns)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := a.Records.Lock(ctx, c.ID)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	records, err := a.Records.whole(c.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range records {
		if r.Network != w.Network && r.IfName != w.IfName {
			continue
		}
		if r.NetNS != "" && r.NS == now {
			if r.IfName == w.IfName || w.IfName == "" {
				return nil, nil, fmt.Errorf("container %s is connected to network %q already, by interface %s", c.Name, r.Network, r.IfName)
			}
			continue // once more, by another interface
		}
		if err := a.detach(ctx, r, false); err != nil {
			return nil, nil, err
		}
	}
	if records, err = a.Records.whole(c.ID); err != nil {
		return nil, nil, err
	}
	taken := names(records)
	wants, _ := c.Wants() // if its labels are wrong, it isn't attached by them
	for _, other := range wants {
		switch {
		case other.Network == w.Network:
		case other.IfName == w.IfName:
			return nil, nil, fmt.Errorf("container %s: interface %s is that of network %q, by its label", c.Name, w.IfName, other.Network)
		default:
			taken[other.IfName] = true
		}
	}
	if w.IfName == "" {
		w.IfName = freeName(c.Interfaces, taken)
	}
	list, err := cni.FindList(a.NetDir, w.Network)
	if err != nil {
		return nil, nil, err
	}
	if len(w.Ports) > 0 && !declares(list, capPorts) {
		return nil, nil, fmt.Errorf("network %q publishes no ports: no plugin of it declares the capability %s", w.Network, capPorts)
	}
	p := planned{&Record{Root: c.Root, ContainerID: c.ID, Name: c.Name, Want: w, Live: true}, list}
	result, err = a.attach(ctx, c, netns, p)
	if err != nil {
		return nil, nil, err
	}
	return p.record, result, nil
}

// Disconnect takes a container, of which the name is for messages, out of a
// network, by one interface or, if that is empty, by all. The error matches ErrNotConnected if it isn't there.
func (a *Attacher) Disconnect(ctx context.Context, id, name, network, ifName string) (err error) {
	unlock, err := a.Records.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	records, err := a.Records.whole(id)
	errs := []error{err}
	found := false
	var others []string
	for _, r := range slices.Backward(records) {
		if r.Network == network && (ifName == "" || r.IfName == ifName) {
			found = true
			errs = append(errs, a.detach(ctx, r, false))
		} else {
			others = append(others, r.Network+" by "+r.IfName)
		}
	}
	if !found {
		errs = append(errs, fmt.Errorf("container %s, network %q: %w; it is connected to %q", name, network, ErrNotConnected, others))
	}
	return errors.Join(errs...)
}

// attach makes one attachment. The record is on disk before anything else is, so
// whatever ends this process leaves nothing that nobody knows of.
func (a *Attacher) attach(ctx context.Context, c *Container, path string, p planned) (*cni.Result, error) {
	r := p.record
	var err error
	if r.NS, err = identify(path); err != nil {
		return nil, err
	}
	if r.Config, err = whole(p.list); err != nil {
		return nil, err
	}
	r.NetNS, r.Made = path, time.Now()
	r.Args, r.Capabilities = arguments(c, r.Want, p.list)
	if err := a.Records.write(r); err != nil {
		return nil, err
	}
	result, err := a.Runtime.Add(ctx, p.list, r.attachment())
	if err == nil {
		if err = r.granted(result); err == nil {
			return result, nil
		}
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return nil, errors.Join(err, a.detach(undo, r, r.Live && r.restarted))
}

// detach deletes an attachment, with the configuration that it was made by. It
// keeps the record if that fails, or, without what it was attached to, if the
// container is to be attached again at its next start.
func (a *Attacher) detach(ctx context.Context, r *Record, keep bool) error {
	if r.NetNS != "" {
		list, err := cni.ParseList(r.Config)
		if err != nil {
			return fmt.Errorf("container %s, network %q: recorded configuration: %w", r.Name, r.Network, err)
		}
		at := r.attachment()
		gone, err := r.gone()
		if err != nil {
			return fmt.Errorf("container %s, network %q: %w", r.Name, r.Network, err)
		}
		if gone {
			at.NetNS = "" // its path may lead to another by now
		}
		if err := a.Runtime.Del(ctx, list, at); err != nil {
			return err
		}
	}
	if !keep {
		return a.Records.remove(r)
	}
	r.NetNS, r.NS, r.Config, r.Args, r.Capabilities = "", netns.ID{}, nil, nil, nil
	return a.Records.write(r)
}

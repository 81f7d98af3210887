// Package engine asks a Docker engine about containers, for what is attached to
// networks while they run.
package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/docker"
)

// An Engine is a running Docker engine of this host.
type Engine struct {
	client   *client.Client
	attacher *docker.Attacher
}

// Open returns the engine at host, "unix:///run/docker.sock", or, if that is
// empty, the one that the environment names as it does for the command docker. It
// need not be running.
func Open(host string, a *docker.Attacher) (*Engine, error) {
	options := []client.Opt{client.FromEnv}
	if host != "" {
		options = append(options, client.WithHost(host))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, err
	}
	return &Engine{c, a}, nil
}

// Close closes the connections.
func (e *Engine) Close() error { return e.client.Close() }

// Connect attaches a running container, given by name or ID, to a network.
func (e *Engine) Connect(ctx context.Context, name string, w docker.Want) (*docker.Record, *cni.Result, error) {
	root, err := e.root(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.inspect(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if !s.running {
		return nil, nil, fmt.Errorf("container %s isn't running; the label %s has it attached when it starts", name, docker.LabelNetworks)
	}
	c, err := s.container(root)
	if err != nil {
		return nil, nil, err
	}
	return e.attacher.Connect(ctx, c, s.netns, w)
}

// Disconnect takes a container out of a network, by one interface or, if that
// is empty, by all. The container may be gone already.
func (e *Engine) Disconnect(ctx context.Context, name, network, ifName string) error {
	root, err := e.root(ctx)
	if err != nil {
		return err
	}
	s, err := e.inspect(ctx, name)
	if errdefs.IsNotFound(err) {
		if gone := e.recorded(root, name); gone != nil {
			return e.attacher.Disconnect(ctx, gone.ContainerID, gone.Name, network, ifName)
		}
	}
	if err != nil {
		return err
	}
	return e.attacher.Disconnect(ctx, s.id, s.name, network, ifName)
}

// recorded returns a record of a container that the engine has no more, nil if
// there is none.
func (e *Engine) recorded(root, name string) *docker.Record {
	ids, _ := e.attacher.Records.Containers() // the engine's answer stands if they can't be read
	for _, id := range ids {
		records, _ := e.attacher.Records.Of(id)
		for _, r := range records {
			if r.Root == root && r.Is(name) {
				return r
			}
		}
	}
	return nil
}

// root returns the engine's data root, which tells the containers of several
// engines on a host apart.
func (e *Engine) root(ctx context.Context) (string, error) {
	info, err := e.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", err
	}
	return info.Info.DockerRootDir, nil
}

// A state is what the engine says of a container.
type state struct {
	id, name string
	running  bool   // and is not about to restart
	netns    string // where the engine has mounted its namespace, "" if it has none of its own
}

// inspect asks the engine about a container. While one starts or ends, that
// waits. The error is errdefs.IsNotFound if there is none.
func (e *Engine) inspect(ctx context.Context, name string) (*state, error) {
	answer, err := e.client.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	c := answer.Container
	s := &state{id: c.ID, name: strings.TrimPrefix(c.Name, "/")}
	if c.State != nil {
		s.running = c.State.Running && !c.State.Restarting
	}
	if c.NetworkSettings != nil {
		s.netns = c.NetworkSettings.SandboxKey
	}
	return s, nil
}

// container reads the files of a container that is there.
func (s *state) container(root string) (*docker.Container, error) {
	return docker.ReadContainer(filepath.Join(root, "containers", s.id))
}

// settle brings a container's attachments in line with what the engine says of
// it, and tells what it did.
func (e *Engine) settle(ctx context.Context, root, id string, logf func(string, ...any)) error {
	all, err := e.attacher.Records.Of(id)
	if err != nil {
		logf("%v", err) // goes with the container
	}
	var records []*docker.Record
	attached := false
	for _, r := range all {
		if r.Root == root {
			records = append(records, r)
			attached = attached || r.NetNS != ""
		}
	}
	if len(records) == 0 {
		return nil
	}
	name := records[0].Name
	// After the records were read, not before: what is attached meanwhile
	// is not among them, and so is left alone.
	s, err := e.inspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		if err := e.attacher.Stop(ctx, id, true); err != nil {
			return err
		}
		logf("container %s is gone: %s", name, networks("removed from", records))
	case err != nil:
		return err
	case s.running:
		c, err := s.container(root)
		if err != nil {
			return err
		}
		again, err := e.attacher.Settle(ctx, c, s.netns, records)
		for _, network := range again {
			logf("container %s was restarted: connected to %s again", name, network)
		}
		return err
	case attached:
		if err := e.attacher.End(ctx, id, records); err != nil {
			return err
		}
		logf("container %s has stopped: %s", name, networks("removed from", records))
	}
	return nil
}

func networks(what string, records []*docker.Record) string {
	for i, r := range records {
		if i > 0 {
			what += ","
		}
		what += " " + r.Network
	}
	return what
}

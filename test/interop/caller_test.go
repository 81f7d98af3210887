package interop

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"
)

// An attachment is a container's interface, and what the runtime asks for it.
type attachment struct {
	id, ns, ifName string
	ports          string // to be mapped, a JSON list; empty for none
}

// newAttachment makes a container whose ID is as long as runtimes' are.
func newAttachment(t *testing.T, name, ifName string) attachment {
	t.Helper()
	return attachment{id: fmt.Sprintf("%x", sha256.Sum256([]byte(name))), ns: container(t), ifName: ifName}
}

// capabilityArgs are what the runtime offers to plugins.
func (at attachment) capabilityArgs() map[string]any {
	if at.ports == "" {
		return nil
	}
	return map[string]any{"portMappings": json.RawMessage(at.ports)}
}

// A caller runs lists of plugins, as a container runtime does.
type caller interface {
	add(list []byte, at attachment) (result []byte, err error)
	check(list []byte, at attachment) error
	del(list []byte, at attachment) error
	gc(list []byte, valid ...attachment) error
	status(list []byte) error
	validate(list []byte) error
}

// plumb is this module's runtime.
type plumb struct{ runtime.Runtime }

func newPlumb(t *testing.T, cache string, i implementation) caller {
	return &plumb{runtime.Runtime{Path: []string{i.bin(t)}, CacheDir: cache}}
}

func (p *plumb) add(list []byte, at attachment) ([]byte, error) {
	l, err := cni.ParseList(list)
	if err != nil {
		return nil, err
	}
	result, err := p.Add(context.Background(), l, at.plumb())
	if err != nil {
		return nil, err
	}
	return result.Encode(l.CNIVersion)
}

func (p *plumb) check(list []byte, at attachment) error {
	return withList(list, func(l *cni.List) error { return p.Check(context.Background(), l, at.plumb()) })
}

func (p *plumb) del(list []byte, at attachment) error {
	return withList(list, func(l *cni.List) error { return p.Del(context.Background(), l, at.plumb()) })
}

func (p *plumb) gc(list []byte, valid ...attachment) error {
	args := new(runtime.GCArgs)
	for _, at := range valid {
		args.Valid = append(args.Valid, cni.Attachment{ContainerID: at.id, IfName: at.ifName})
	}
	return withList(list, func(l *cni.List) error { return p.GC(context.Background(), l, args) })
}

func (p *plumb) status(list []byte) error {
	return withList(list, func(l *cni.List) error { return p.Status(context.Background(), l) })
}

func (p *plumb) validate(list []byte) error {
	return withList(list, func(l *cni.List) error {
		_, err := p.Validate(context.Background(), l)
		return err
	})
}

func withList(list []byte, f func(*cni.List) error) error {
	l, err := cni.ParseList(list)
	if err != nil {
		return err
	}
	return f(l)
}

func (at attachment) plumb() runtime.Attachment {
	return runtime.Attachment{ContainerID: at.id, NetNS: at.ns, IfName: at.ifName, CapabilityArgs: at.capabilityArgs()}
}

// official is the CNI project's library, which containerd, podman and CRI-O
// link.
type official struct{ *libcni.CNIConfig }

func newOfficial(t *testing.T, cache string, i implementation) caller {
	return official{libcni.NewCNIConfigWithCacheDir([]string{i.bin(t)}, cache, nil)}
}

func (o official) add(list []byte, at attachment) ([]byte, error) {
	l, err := libcni.NetworkConfFromBytes(list)
	if err != nil {
		return nil, err
	}
	result, err := o.AddNetworkList(context.Background(), l, at.official())
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

func (o official) check(list []byte, at attachment) error {
	return withOfficial(list, func(l *libcni.NetworkConfigList) error {
		return o.CheckNetworkList(context.Background(), l, at.official())
	})
}

func (o official) del(list []byte, at attachment) error {
	return withOfficial(list, func(l *libcni.NetworkConfigList) error {
		return o.DelNetworkList(context.Background(), l, at.official())
	})
}

func (o official) gc(list []byte, valid ...attachment) error {
	args := new(libcni.GCArgs)
	for _, at := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: at.id, IfName: at.ifName})
	}
	return withOfficial(list, func(l *libcni.NetworkConfigList) error {
		return o.GCNetworkList(context.Background(), l, args)
	})
}

func (o official) status(list []byte) error {
	return withOfficial(list, func(l *libcni.NetworkConfigList) error {
		return o.GetStatusNetworkList(context.Background(), l)
	})
}

func (o official) validate(list []byte) error {
	return withOfficial(list, func(l *libcni.NetworkConfigList) error {
		_, err := o.ValidateNetworkList(context.Background(), l)
		return err
	})
}

func withOfficial(list []byte, f func(*libcni.NetworkConfigList) error) error {
	l, err := libcni.NetworkConfFromBytes(list)
	if err != nil {
		return err
	}
	return f(l)
}

func (at attachment) official() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: at.id, NetNS: at.ns, IfName: at.ifName, CapabilityArgs: at.capabilityArgs()}
}

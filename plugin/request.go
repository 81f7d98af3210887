package plugin

import (
	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/state"
)

// A Request is one call of a plugin with its configuration decoded.
type Request struct {
	*cni.Request
	Config *cni.Config
	Args   cni.Args

	// Owner is the attachment that the call is about; only Network is set
	// for GC and STATUS.
	Owner state.Owner

	// Fresh tells that nobody on this host has had the addresses that IPAM
	// gave on ADD since it booted, as far as that is known.
	Fresh bool

	// Collected tells that a GC asks for the footprint of an attachment: the
	// other plugins of its list come after this one has released its address.
	Collected bool

	records state.Records
}

// Recorded returns what all plugins have recorded of attachments. It reads a whole
// folder, which is for messages alone.
func (r *Request) Recorded() ([]state.Record, error) { return r.records.All() }

// NewRequest decodes the configuration and the arguments of a call.
//
// It fails with cni.CodeDecode or cni.CodeInvalidConfig for a configuration
// and with cni.CodeInvalidEnvironment for CNI_ARGS that can't be read.
func NewRequest(call *cni.Request) (*Request, error) {
	config, err := cni.ParseConfig(call.Config)
	if err != nil {
		return nil, err
	}
	args, err := cni.ParseArgs(call.Args)
	if err != nil {
		return nil, err
	}
	return &Request{
		Request: call,
		Config:  config,
		Args:    args,
		Owner:   state.Owner{Network: config.Name, ContainerID: call.ContainerID, IfName: call.IfName},
	}, nil
}

package cni

// A Request is one call of one plugin: what the protocol carries in the
// environment and on standard input (SPEC section 2, "Parameters").
//
// Which fields are set depends on the verb: ADD and CHECK have all of an
// attachment's, DEL may lack NetNS, GC and STATUS have Path and Config only.
type Request struct {
	Verb        Verb
	ContainerID string   // CNI_CONTAINERID
	NetNS       string   // CNI_NETNS, a path; may be empty on DEL
	IfName      string   // CNI_IFNAME
	Args        string   // CNI_ARGS as received; ParseArgs decodes it
	Path        []string // CNI_PATH, split
	Config      []byte   // the request configuration: one JSON object

	// NetNSOverride is CNI_NETNS_OVERRIDE: the caller insists that the
	// sandbox may be the host's own namespace.
	NetNSOverride bool
}

package types

import "encoding/json"

// A PluginConf has those keys of a plugin's configuration that the specification
// knows. Plugins embed it in a struct with keys of their own.
//
// Such a struct has the MarshalJSON of PluginConf, and so loses its own keys when
// it is encoded: a program that encodes one has to give it a MarshalJSON, or a
// named field in the place of the embedded one.
type PluginConf struct {
	CNIVersion string `json:"cniVersion,omitempty"`

	Name         string          `json:"name,omitempty"`
	Type         string          `json:"type,omitempty"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	IPAM         IPAM            `json:"ipam,omitempty"` // written when it is empty, as it always was
	DNS          DNS             `json:"dns,omitempty"`  // see MarshalJSON

	// RawPrevResult is the previous result as it came, and PrevResult what
	// version.ParsePrevResult has made of it.
	RawPrevResult map[string]interface{} `json:"prevResult,omitempty"`
	PrevResult    Result                 `json:"-"`

	// ValidAttachments come with GC alone.
	ValidAttachments []GCAttachment `json:"cni.dev/valid-attachments,omitempty"`
}

// NetConf is the name that PluginConf had.
type NetConf = PluginConf

// MarshalJSON encodes n, without the key dns if that section is empty.
func (n *PluginConf) MarshalJSON() ([]byte, error) {
	type plain PluginConf // has no MarshalJSON
	shape := struct {
		*plain
		DNS *DNS `json:"dns,omitempty"`
	}{plain: (*plain)(n)}
	if !n.DNS.IsEmpty() {
		shape.DNS = &n.DNS
	}
	return json.Marshal(shape)
}

// An IPAM is what is common to all sections "ipam".
type IPAM struct {
	Type string `json:"type,omitempty"` // file name of the IPAM plugin
}

// IsEmpty reports whether i names no plugin.
func (i *IPAM) IsEmpty() bool { return i.Type == "" }

// A GCAttachment is an attachment that GC has to spare.
type GCAttachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// A NetConfList is a network configuration: plugins that are called in order.
type NetConfList struct {
	CNIVersion string `json:"cniVersion,omitempty"`

	Name         string        `json:"name,omitempty"`
	DisableCheck bool          `json:"disableCheck,omitempty"`
	DisableGC    bool          `json:"disableGC,omitempty"`
	Plugins      []*PluginConf `json:"plugins,omitempty"`
}

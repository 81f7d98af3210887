package cni

// An Attachment is one interface of one container on a network. GC is told the
// valid ones.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

package cni

import "encoding/json"

// A Config is the configuration of one plugin.
type Config struct {
	CNIVersion    Version
	Name          string
	Type          string
	Capabilities  map[string]bool
	IPAM          IPAM
	DNS           DNS
	Args          json.RawMessage
	RuntimeConfig json.RawMessage
	PrevResult    *Result
	Valid         []Attachment
	HasValid      bool
	Raw           json.RawMessage
}

// An IPAM is the "ipam" section of a Config.
type IPAM struct {
	Type string
	Raw  json.RawMessage
}

// ParseConfig decodes the configuration of one plugin.
func ParseConfig(data []byte) (*Config, error) { return nil, errTodo }

// Derive replaces and removes keys of a JSON object.
func Derive(raw json.RawMessage, set map[string]any, drop ...string) ([]byte, error) {
	return nil, errTodo
}

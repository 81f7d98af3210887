package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A Config is the configuration of one plugin, as the plugin gets it on standard
// input or as a List holds it. It has the keys that the protocol or more than
// one plugin knows; a plugin decodes its own from Raw. PrevResult and Valid come
// with a request, so those of a List have none.
type Config struct {
	CNIVersion   Version // 0.2.0 if the configuration has none (spec-upgrades.md)
	Name         string  // of the network
	Type         string  // file name of the plugin; may be empty on standard input
	Capabilities map[string]bool
	IPAM         IPAM
	DNS          DNS

	Args          json.RawMessage // "args", nil if absent; runtimes put theirs under its key "cni"
	RuntimeConfig json.RawMessage // "runtimeConfig", nil if absent

	PrevResult *Result // nil if absent

	// Valid are the attachments that GC has to spare. They mean something only if
	// HasValid: without a list nothing is known to be stale, while an empty
	// one says that no attachment is valid.
	Valid    []Attachment
	HasValid bool

	Raw json.RawMessage // the whole object, as it came
}

// An IPAM is the section "ipam" of a Config.
type IPAM struct {
	Type string          // file name of the IPAM plugin; empty if addresses are not managed
	Raw  json.RawMessage // the section as it came; nil if absent or null
}

// configJSON is the form of a Config. Keys are taken in any case, which runtimes
// rely on.
type configJSON struct {
	CNIVersion    string          `json:"cniVersion"`
	Name          string          `json:"name"`
	Type          string          `json:"type"`
	Capabilities  map[string]bool `json:"capabilities"`
	IPAM          json.RawMessage `json:"ipam"`
	DNS           DNS             `json:"dns"`
	Args          json.RawMessage `json:"args"`
	RuntimeConfig json.RawMessage `json:"runtimeConfig"`
	PrevResult    json.RawMessage `json:"prevResult"`

	// The specification's key and the one that was used before it was settled.
	// Runtimes send both.
	ValidAttachments json.RawMessage `json:"cni.dev/valid-attachments"`
	Attachments      json.RawMessage `json:"cni.dev/attachments"`
}

func (w *configJSON) fields() []field {
	return []field{
		{key: "cniVersion", value: &w.CNIVersion},
		{key: "name", value: &w.Name},
		{key: "type", value: &w.Type},
		{key: "capabilities", value: &w.Capabilities},
		{key: "ipam", value: &w.IPAM},
		{key: "dns", value: (*dnsJSON)(&w.DNS)},
		{key: "args", value: &w.Args},
		{key: "runtimeConfig", value: &w.RuntimeConfig},
		{key: "prevResult", value: &w.PrevResult},
		{key: "cni.dev/valid-attachments", value: &w.ValidAttachments},
		{key: "cni.dev/attachments", value: &w.Attachments},
	}
}

// sectionJSON is what of the section ipam is for everybody.
type sectionJSON struct {
	Type string `json:"type"`
}

func (w *sectionJSON) fields() []field { return []field{{key: "type", value: &w.Type}} }

// An Identity is what of a configuration tells which network it is of, and how to
// speak to it. Both may be missing, and invalid.
type Identity struct {
	CNIVersion Version `json:"cniVersion"`
	Name       string  `json:"name"`
}

// identityJSON is the structure of an Identity. That has no method for it, which
// who embeds it would inherit.
type identityJSON Identity

func (w *identityJSON) fields() []field {
	return []field{{key: "cniVersion", value: &w.CNIVersion}, {key: "name", value: &w.Name}}
}

// Identify decodes no more of a configuration than its Identity. Errors are of
// CodeDecode.
func Identify(config []byte) (i Identity, err error) {
	err = Decode(config, (*identityJSON)(&i), "network configuration")
	return i, err
}

// ParseConfig decodes the configuration that a plugin gets on standard input.
//
// Errors are of CodeDecode for what can't be decoded, the previous result
// included, of CodeInvalidConfig for an invalid name or type, and of
// CodeIncompatibleVersion for a version that is not supported.
func ParseConfig(data []byte) (*Config, error) {
	c, w, err := decodeConfig(data)
	if err != nil {
		return nil, err
	}
	if err := ValidateName(c.Name); err != nil {
		return nil, err
	}
	if w.CNIVersion == "" {
		c.CNIVersion = V020
	} else if c.CNIVersion, err = ParseVersion(w.CNIVersion); err != nil {
		return nil, err
	}
	if !isNull(w.PrevResult) {
		if c.PrevResult, err = DecodeResult(w.PrevResult, c.CNIVersion); err != nil {
			return nil, fmt.Errorf("prevResult: %w", err)
		}
	}
	for _, list := range []json.RawMessage{w.ValidAttachments, w.Attachments} {
		if err := c.addValid(list); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// decodeConfig decodes what a configuration on disk and one on standard input
// have in common. The version is left to the caller.
func decodeConfig(data []byte) (*Config, *configJSON, error) {
	var w configJSON
	if err := Decode(data, &w, "configuration"); err != nil {
		return nil, nil, err
	}
	c := &Config{
		Name:          w.Name,
		Type:          w.Type,
		Capabilities:  w.Capabilities,
		DNS:           w.DNS.clone(),
		Args:          w.Args,
		RuntimeConfig: w.RuntimeConfig,
		Raw:           bytes.Clone(data),
	}
	if err := validateType("type", c.Type); err != nil {
		return nil, nil, err
	}
	if !isNull(w.IPAM) {
		var section sectionJSON
		if err := Decode(w.IPAM, &section, "ipam"); err != nil {
			return nil, nil, err
		}
		if err := validateType("ipam type", section.Type); err != nil {
			return nil, nil, err
		}
		c.IPAM = IPAM{section.Type, w.IPAM}
	}
	return c, &w, nil
}

// addValid adds a list of valid attachments; nil is no list. Where the two
// lists of a request differ, what either has is valid.
func (c *Config) addValid(list json.RawMessage) error {
	if list == nil {
		return nil
	}
	c.HasValid = true
	var valid []Attachment
	if err := json.Unmarshal(list, &valid); err != nil {
		return Errorf(CodeDecode, "decode valid attachments: %w", inWords(err, list, &valid)).
			WithDetails(`cni.dev/valid-attachments is a list of {"containerID": "ID", "ifname": "eth0"}`)
	}
	known := make(map[Attachment]bool, len(c.Valid))
	for _, a := range c.Valid {
		known[a] = true
	}
	for _, a := range valid {
		if !known[a] {
			known[a] = true
			c.Valid = append(c.Valid, a)
		}
	}
	return nil
}

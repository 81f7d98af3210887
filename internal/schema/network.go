package schema

import (
	"maps"
	"slices"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/docs"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/plugin"
)

// names of the specification's form (SPEC section 1): of networks, and of
// plugins, which are names of files.
const (
	networkName = `^[0-9A-Za-z][0-9A-Za-z_.-]*$`
	pluginName  = `^[^/]+$`
)

// Networks returns the schema of network configurations: lists, and
// configurations of a single plugin. ipam are the names of those of the plugins
// that stand in the section "ipam".
//
// A key that a plugin of ours doesn't know is a mistake. Plugins of others may
// have any, and so may "args" and "runtimeConfig", by which runtimes
// send what they like. CNI takes keys in any case; these are the documented
// ones.
func Networks(plugins []plugin.Plugin, ipam []string) *Schema {
	root := &Schema{
		Version:     "http://json-schema.org/draft-07/schema#",
		Title:       "CNI network configuration",
		Type:        "object",
		If:          &Schema{Required: []string{"type"}, Not: &Schema{Required: []string{"plugins"}}},
		Then:        &Schema{AllOf: []*Schema{ref("plugin"), {Required: []string{"name"}}}},
		Else:        ref("list"),
		Definitions: keys{"list": networkList()},
	}
	var own, ofIPAM []*Schema
	requests := &Schema{Properties: keys{}} // what every IPAM plugin reads beside its section
	for _, p := range plugins {
		if !slices.Contains(ipam, p.Name()) {
			continue
		}
		s := ofPlugin(p)
		section := s.Properties["ipam"]
		section.Properties["type"] = &Schema{Const: p.Name()}
		root.Definitions["ipam-"+p.Name()] = section
		ofIPAM = append(ofIPAM, when("type", p.Name(), ref("ipam-"+p.Name())))
		for _, key := range []string{"args", "runtimeConfig"} {
			if s.Properties[key] != nil {
				requests.merge(&Schema{Properties: keys{key: s.Properties[key].clone()}})
			}
		}
	}
	for _, p := range plugins {
		s := ofPlugin(p)
		s.merge(requests.clone())
		s.merge(common())
		s.Properties["ipam"] = ref("ipam")
		s.Properties["args"].open()
		s.Properties["runtimeConfig"].open()
		root.Definitions["plugin-"+p.Name()] = s
		own = append(own, when("type", p.Name(), ref("plugin-"+p.Name())))
	}
	types := docsOf(plugins, nil)
	types[fused.Name] = "All plugins of a list in one process"
	root.Definitions["plugin-"+fused.Name] = fusedList()
	own = append(own, when("type", fused.Name, ref("plugin-"+fused.Name)))
	root.Definitions["plugin"] = choice("the plugin, which is the name of its program", types, own)
	root.Definitions["ipam"] = choice("the plugin that gives addresses", docsOf(plugins, ipam), ofIPAM)
	root.Definitions["plugin"].Required = []string{"type"}
	return root
}

// ofPlugin returns the schema of a plugin's own keys.
func ofPlugin(p plugin.Plugin) *Schema {
	s := typeOf(p.Config(), terms{}, false, "", docs.KeysOf(p.Name()).About)
	s.Title = p.Name()
	return s
}

// docsOf returns what plugins are, by name: all, or those of the names.
func docsOf(plugins []plugin.Plugin, names []string) map[string]string {
	about := make(map[string]string)
	for _, p := range plugins {
		if names == nil || slices.Contains(names, p.Name()) {
			about[p.Name()] = docs.Summary(p.Name())
		}
	}
	return about
}

// choice is the schema of an object whose key "type" says which other applies.
// Types of others are possible.
func choice(about string, types map[string]string, each []*Schema) *Schema {
	names := &Schema{}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		names.Enum, names.EnumAbout = append(names.Enum, name), append(names.EnumAbout, types[name])
	}
	return &Schema{
		Type:       "object",
		Properties: keys{"type": {Description: about, AnyOf: []*Schema{names, {Type: "string", Pattern: pluginName}}}},
		AllOf:      each,
	}
}

// ListKeys returns the keys of a list, those that runtimes keep there included.
func ListKeys() []string { return slices.Sorted(maps.Keys(networkList().Properties)) }

// networkList is the schema of a list.
func networkList() *Schema {
	flag := func(about string) *Schema {
		return &Schema{Description: about, AnyOf: []*Schema{of("boolean"), {Type: "string", Enum: []string{"true", "false"}}}}
	}
	return &Schema{
		Type: "object",
		Properties: keys{
			"$schema":                of("string"),
			"cniVersion":             version(),
			"cniVersions":            list(of("string")).about("versions of the specification that may be used"),
			"name":                   {Type: "string", Pattern: networkName, Description: "the network, which is unique on a host"},
			"disableCheck":           flag("no CHECK"),
			"disableGC":              flag("no GC"),
			"loadOnlyInlinedPlugins": flag("plugins in the folder of the network's name don't count"),
			"args":                   of("object").about("the runtime's own"),
			"nerdctlID":              {Description: "nerdctl's own"},
			"nerdctlLabels":          of("object").about("nerdctl's own"),
			"plugins":                plugins(),
		},
		Required: []string{"name"},
		Others:   false,
	}
}

// fusedList is the schema of the plugin that is a list.
func fusedList() *Schema {
	s := &Schema{Title: fused.Name, Type: "object", Properties: keys{"plugins": plugins()}, Required: []string{"plugins"}, Others: false}
	s.merge(common())
	return s
}

func plugins() *Schema {
	return &Schema{Type: "array", Items: ref("plugin"), MinItems: 1, Description: "called in this order, and for DEL in the other"}
}

func version() *Schema {
	s := of("string").about("version of the specification")
	for _, v := range cni.Versions() {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// common is the schema of the keys that every plugin may have. Some of them
// come with requests.
func common() *Schema {
	texts := func() *Schema { return list(of("string")) }
	return &Schema{Properties: keys{
		"$schema":      of("string"),
		"cniVersion":   version(),
		"name":         {Type: "string", Pattern: networkName, Description: "the network, which is unique on a host"},
		"type":         {Type: "string"},
		"capabilities": {Type: "object", Others: of("boolean"), Description: "what the runtime may send in runtimeConfig"},
		"dns": {
			Type: "object", Others: false, Description: "what the result says of name servers",
			Properties: keys{"nameservers": texts(), "domain": of("string"), "search": texts(), "options": texts()},
		},
		"args":                      {Type: "object", Properties: keys{"cni": of("object")}, Description: "what the runtime sends, by whose it is"},
		"runtimeConfig":             {Type: "object", Properties: keys{}, Description: "what the runtime sends, by capability"},
		"prevResult":                of("object").about("the result of the plugin before, which the runtime sends"),
		"cni.dev/valid-attachments": list(of("object")).about("what GC spares, which the runtime sends"),
		"cni.dev/attachments":       list(of("object")).about("what GC spares, which the runtime sends"),
	}}
}

// Package programs names the programs that stand side by side in a folder of
// plugins, and start each other.
package programs

const (
	// Plugins is every plugin, and cnitool, by the name that it is called by.
	Plugins = "plumb-cni"

	// Tool is the program for people, and the daemons. Called by the name
	// plumb, Plugins becomes it.
	Tool = "plumb-tool"

	// Runtime is the OCI runtime that attaches Docker's containers.
	Runtime = "plumb-runc"
)

// All returns every program. Plugins is the last one, to which links lead.
func All() []string { return []string{Tool, Runtime, Plugins} }

package cni

// A List is a network configuration: plugins to be called in order.
type List struct {
	Name                   string
	CNIVersion             Version
	CNIVersions            []Version
	DisableCheck           bool
	DisableGC              bool
	LoadOnlyInlinedPlugins bool
	Plugins                []*Config
	Raw                    []byte
	Single                 bool
}

// ParseList decodes a list or a single configuration.
func ParseList(data []byte) (*List, error) { return nil, errTodo }

// LoadList reads a list or a single configuration from a file.
func LoadList(path string) (*List, error) { return nil, errTodo }

// LoadDir reads every configuration of a folder.
func LoadDir(dir string) ([]*List, error) { return nil, errTodo }

// FindList returns the first configuration of that name.
func FindList(dir, name string) (*List, error) { return nil, errTodo }

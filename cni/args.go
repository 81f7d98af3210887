package cni

// Args are the decoded CNI_ARGS.
type Args struct{ pairs [][2]string }

// ParseArgs decodes CNI_ARGS.
func ParseArgs(s string) (Args, error) { return Args{}, errTodo }

// Get returns the value of key and whether it is present.
func (a Args) Get(key string) (string, bool) { return "", false }

// Check refuses keys that are not known, unless IgnoreUnknown is set.
func (a Args) Check(known ...string) error { return errTodo }

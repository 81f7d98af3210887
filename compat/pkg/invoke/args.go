package invoke

import (
	"os"
	"slices"
	"strings"
)

// CNIArgs are what a plugin is told in its environment.
type CNIArgs interface {
	// AsEnv returns the whole environment, "key=value". Nil is that of this
	// process.
	AsEnv() []string
}

// ArgsFromEnv returns the arguments that this process was called with itself.
func ArgsFromEnv() CNIArgs { return inherited{} }

type inherited struct{}

func (inherited) AsEnv() []string { return nil }

// Args are the arguments of a call. All of them are set in the environment, the
// rest of which is that of this process.
type Args struct {
	Command       string
	ContainerID   string
	NetNS         string
	PluginArgs    [][2]string // become CNI_ARGS, unless PluginArgsStr is set
	PluginArgsStr string
	IfName        string
	Path          string
}

// AsEnv returns the environment of the call.
func (args *Args) AsEnv() []string {
	text := args.PluginArgsStr
	if text == "" {
		pairs := make([]string, len(args.PluginArgs))
		for i, kv := range args.PluginArgs {
			pairs[i] = kv[0] + "=" + kv[1]
		}
		text = strings.Join(pairs, ";")
	}
	return environ(
		"CNI_COMMAND="+args.Command,
		"CNI_CONTAINERID="+args.ContainerID,
		"CNI_NETNS="+args.NetNS,
		"CNI_ARGS="+text,
		"CNI_IFNAME="+args.IfName,
		"CNI_PATH="+args.Path,
	)
}

// DelegateArgs are the arguments that this process was called with itself, but for
// the verb.
type DelegateArgs struct {
	Command string
}

// AsEnv returns the environment of the call.
func (d *DelegateArgs) AsEnv() []string { return environ("CNI_COMMAND=" + d.Command) }

// environ is the environment of this process with variables replaced or added, each
// of them once.
func environ(set ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(old string) bool {
		return slices.ContainsFunc(set, func(s string) bool {
			key, _, _ := strings.Cut(s, "=")
			return strings.HasPrefix(old, key+"=")
		})
	})
	return append(env, set...)
}

package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/internal/plugindir"
)

func pluginsCommand() *cobra.Command {
	c := &cobra.Command{Use: "plugins", Short: "The plugins of a folder"}
	c.AddCommand(installCommand(), removeCommand())
	return c
}

// pluginFolder is the folder that an argument names. One that would be another
// folder if the command were started elsewhere is refused.
func pluginFolder(arg string) (plugindir.Folder, error) {
	if !filepath.IsAbs(arg) {
		return plugindir.Folder{}, fmt.Errorf("%q is not an absolute path", arg)
	}
	return plugindir.Folder{Dir: arg}, nil
}

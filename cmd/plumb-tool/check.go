package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/internal/schema"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/plugins/all"
)

const listsCheckHelp = `Reads network configurations, those of the folder ` + defaultNetDir + ` or what PATH is, a file or a folder. It tells of those that
can't be read, and of keys that nothing reads, which are often mistyped: the plugins themselves pass over them, since anybody may add keys.
Plugins of others may have any. What values are good is for "cnitool status" to say, which asks the plugins of lists of 1.1.0.

The exit status is 1 if there is anything to tell.`

func listsCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [PATH]",
		Short: "Tell of mistakes in network configurations: keys that are mistyped",
		Long:  listsCheckHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			path := defaultNetDir
			if len(args) == 1 {
				path = args[0]
			}
			return checkLists(path, c.OutOrStdout())
		},
	}
}

// checkLists tells of all mistakes, and fails if there are any.
func checkLists(path string, out io.Writer) error {
	files := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if files, err = cni.ListFiles(path); err != nil {
			return err
		}
	}
	mistakes := 0
	for _, file := range files {
		list, err := cni.LoadList(file) // whose errors name the file
		if err != nil {
			mistakes++
			fmt.Fprintln(out, err)
			continue
		}
		for _, m := range mistakesOf(list) {
			mistakes++
			fmt.Fprintf(out, "%s: network %s: %s\n", file, list.Name, m)
		}
	}
	if mistakes > 0 {
		return fmt.Errorf("mistakes in %s: %d", path, mistakes)
	}
	return nil
}

// mistakesOf returns what is to be told of a list that can be read.
func mistakesOf(list *cni.List) (told []string) {
	if !list.Single {
		for _, u := range plugin.UnknownKeys(list.Raw, schema.ListKeys()) {
			told = append(told, u.String())
		}
	}
	for _, p := range list.Plugins {
		told = append(told, mistakesOfPlugin(p.Raw)...)
	}
	return told
}

// mistakesOfPlugin returns those of one plugin, or of all within the one that is a
// list.
func mistakesOfPlugin(raw []byte) (told []string) {
	var p struct {
		Type    string            `json:"type"`
		Plugins []json.RawMessage `json:"plugins"`
	}
	if json.Unmarshal(raw, &p) != nil {
		return nil // which the plugin is to say
	}
	if p.Type == fused.Name {
		for _, inner := range p.Plugins {
			told = append(told, mistakesOfPlugin(inner)...)
		}
		return told
	}
	known, ok := all.Find(p.Type)
	if !ok {
		return nil
	}
	for _, u := range known.Unknown(raw, ownIPAM) {
		told = append(told, fmt.Sprintf("plugin %s: %s", p.Type, u))
	}
	return told
}

func ownIPAM(name string) plugin.IPAM {
	for _, p := range all.IPAM() {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/fused"
	"github.com/plumb-cni/plumb/internal/smallfile"
)

const fuseHelp = `Rewrites the configuration of a network so that all of its plugins are called in one process: a runtime that executes
plugins waits for one in the place of one for each. Results, errors and capabilities are those of the plugins; what is
attached already is checked and deleted as before, either way. Plugins of others in the list are executed as ever.

NETWORK is a file, or the name of a network in the folder of configurations.`

func fuseCommand() *cobra.Command {
	var undo bool
	var netDir string
	c := &cobra.Command{
		Use:   "fuse NETWORK",
		Short: "Have all plugins of a network called in one process, or undo that",
		Long:  fuseHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := configurationFile(netDir, args[0])
			if err != nil {
				return err
			}
			rewrite := fused.Fuse
			if undo {
				rewrite = fused.Unfuse
			}
			return rewriteFile(path, rewrite, c.OutOrStdout())
		},
	}
	c.ValidArgsFunction = completeNetworks(0, &netDir, func(l *cni.List) bool { return isFused(l) == undo })
	c.Flags().BoolVar(&undo, "undo", false, "have each plugin called by itself again")
	c.Flags().StringVar(&netDir, "netdir", defaultNetDir, "where network configurations are")
	return c
}

// isFused reports whether a list has plugins that are called in one process.
func isFused(l *cni.List) bool {
	return slices.ContainsFunc(l.Plugins, func(p *cni.Config) bool { return p.Type == fused.Name })
}

// configurationFile returns the file that an argument means: itself, or the one
// of a network of that name.
func configurationFile(netDir, arg string) (string, error) {
	if strings.Contains(arg, "/") || filepath.Ext(arg) != "" {
		if _, err := os.Stat(arg); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return arg, err
		}
	}
	files, err := cni.ListFiles(netDir)
	if err != nil {
		return "", err
	}
	errs := []error{fmt.Errorf("there is no file %s and no network of that name in %s", arg, netDir)}
	for _, file := range files {
		list, err := cni.LoadList(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if list.Name == arg {
			return file, nil
		}
	}
	return "", errors.Join(errs...)
}

// rewriteFile changes a configuration in one piece: a runtime may be reading the
// folder.
func rewriteFile(path string, rewrite func([]byte) ([]byte, error), out io.Writer) error {
	path, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	compact, err := rewrite(old)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, compact, "", "  "); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text.WriteByte('\n')
	if err := smallfile.ReplaceOnDisk(path, text.Bytes(), info.Mode().Perm()); err != nil {
		return err
	}
	fmt.Fprintln(out, "rewrote", path)
	return nil
}

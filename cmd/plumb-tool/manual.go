package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/plumb-cni/plumb/internal/manual"
	"github.com/plumb-cni/plumb/plugins/all"
)

const manualHelp = `Writes the manual pages of plumb's commands (section 8) and of the plugins (section 7) into the folder DIR/man, and what shells
complete the commands with into DIR/bash-completion/completions, DIR/zsh/vendor-completions and DIR/fish/vendor_completions.d.
These are the folders below /usr/share.

The pages bear the date of SOURCE_DATE_EPOCH, if that is set.`

func manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "manual DIR",
		Short: "Write manual pages and shell completions",
		Long:  manualHelp,
		Args:  arguments,
		RunE: func(c *cobra.Command, args []string) error {
			date := time.Now()
			if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
				seconds, err := strconv.ParseInt(epoch, 10, 64)
				if err != nil {
					return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
				}
				date = time.Unix(seconds, 0)
			}
			return errors.Join(writePages(c.Root(), filepath.Join(args[0], "man"), date.UTC()), writeCompletions(c.Root(), args[0]))
		},
	}
}

// writePages writes those of all commands and plugins.
func writePages(root *cobra.Command, dir string, date time.Time) error {
	commands, plugins := filepath.Join(dir, "man8"), filepath.Join(dir, "man"+manual.Section)
	for _, dir := range []string{commands, plugins} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	root.DisableAutoGenTag = true // a date again
	header := &doc.GenManHeader{Section: "8", Date: &date, Source: "plumb " + version, Manual: "Container networking"}
	if err := doc.GenManTree(root, header, commands); err != nil {
		return err
	}
	for _, p := range all.Plugins() {
		page, err := manual.Plugin(p.Name(), version, date)
		if err != nil {
			return err
		}
		file := filepath.Join(plugins, manual.PageName(p.Name())+"."+manual.Section)
		if err := os.WriteFile(file, page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeCompletions writes a file for each shell, where it looks for that.
func writeCompletions(root *cobra.Command, dir string) error {
	for _, shell := range []struct {
		file  string
		write func(string) error
	}{
		{"bash-completion/completions/plumb", func(file string) error { return root.GenBashCompletionFileV2(file, true) }},
		{"zsh/vendor-completions/_plumb", root.GenZshCompletionFile},
		{"fish/vendor_completions.d/plumb.fish", func(file string) error { return root.GenFishCompletionFile(file, true) }},
	} {
		file := filepath.Join(dir, shell.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := shell.write(file); err != nil {
			return err
		}
	}
	return nil
}

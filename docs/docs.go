// Package docs holds the documents of the plugins, for what is made of them:
// manual pages, and the descriptions of keys in an editor.
package docs

import (
	"embed"
	"regexp"
	"strings"
)

//go:embed plugins/*.md
var files embed.FS

// Plugin returns a plugin's document, in Markdown, or "" if there is none.
func Plugin(name string) string {
	data, err := files.ReadFile("plugins/" + name + ".md")
	if err != nil {
		return ""
	}
	return string(data)
}

// Summary returns the first sentence of a plugin's document.
func Summary(plugin string) string {
	_, text, _ := strings.Cut(Plugin(plugin), "\n\n")
	text, _, _ = strings.Cut(text, "\n\n")
	text = strings.Join(strings.Fields(text), " ")
	if end := regexp.MustCompile(`[.;]( |$)`).FindStringIndex(text); end != nil {
		text = text[:end[0]]
	}
	return text
}

// Keys are what the tables of a plugin's document say of its keys, by their
// paths, with dots.
type Keys map[string]string

// About returns what is said of a key, "" if nothing is. A document may leave out
// that a key is in the section "ipam", and need not have a line for the same
// key as the runtime sends it.
func (k Keys) About(path string) string {
	for _, prefix := range []string{"", "ipam.", "args.cni.", "runtimeConfig."} {
		if text := k[strings.TrimPrefix(path, prefix)]; text != "" {
			return text
		}
	}
	return ""
}

// KeysOf reads the document of a plugin.
func KeysOf(plugin string) Keys {
	keys := make(Keys)
	var columns []string // of the table that the line is in; nil if it isn't of keys
	last := ""
	for line := range strings.Lines(Plugin(plugin)) {
		cells := Cells(line)
		switch {
		case cells == nil:
			columns = nil
		case columns == nil && strings.EqualFold(cells[0], "key"):
			columns = cells
		case columns == nil || len(cells) != len(columns) || strings.HasPrefix(cells[0], "---"):
		default:
			text := describe(columns, cells)
			for _, word := range regexp.MustCompile("`[^`]+`").FindAllString(cells[0], -1) {
				name := strings.ReplaceAll(strings.Trim(word, "`"), "[]", "")
				if below, ok := strings.CutPrefix(name, "…."); ok {
					name = last + "." + below
				} else {
					last = name
				}
				keys[name] = text
			}
		}
	}
	return keys
}

// Cells returns those of a line of a table, nil for another line.
func Cells(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") {
		return nil
	}
	list := strings.Split(strings.Trim(line, "|"), "|")
	for i, c := range list {
		list[i] = strings.TrimSpace(c)
	}
	return list
}

// describe puts a line of a table into words.
func describe(columns, cells []string) string {
	var meaning, otherwise string
	for i, column := range columns {
		switch strings.ToLower(column) {
		case "meaning":
			meaning = cells[i]
		case "default":
			otherwise = cells[i]
		}
	}
	if meaning == "" {
		meaning = cells[1]
	}
	if otherwise != "" {
		meaning += " (default: " + otherwise + ")"
	}
	return strings.ReplaceAll(meaning, "`", "")
}

// Package manual makes manual pages of the documents of the plugins.
package manual

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/plumb-cni/plumb/docs"
)

// Section is the section of the manual that plugins are in. In section 8 there
// are other programs of their names, such as bridge.
const Section = "7"

// PageName is the name of a plugin's page.
func PageName(plugin string) string { return "plumb-" + plugin }

// A link in a document.
var link = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`)

// Plugin returns the page of a plugin, for roff, made of its document.
func Plugin(name, version string, date time.Time) ([]byte, error) {
	text := docs.Plugin(name)
	title, text, ok := strings.Cut(text, "\n")
	if !ok || title != "# "+name {
		return nil, fmt.Errorf("the document of plugin %s doesn't begin with its name", name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%% %q %q %q %q %q\n", strings.ToUpper(PageName(name)), Section, date.Format("2006-01-02"), "plumb "+version, "CNI plugins")
	fmt.Fprintf(&b, "# NAME\n%s - %s\n\n# DESCRIPTION\n", PageName(name), docs.Summary(name))
	code := false
	var table []string // the headings of the one that the line is in
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if !code && !strings.HasPrefix(line, "    ") {
			if heading, ok := strings.CutPrefix(line, "## "); ok {
				line = "# " + strings.ToUpper(heading)
			}
			line = link.ReplaceAllStringFunc(line, replaceLink)
			if cells := docs.Cells(line); cells == nil {
				table = nil
			} else if table == nil {
				table, line = cells, ""
			} else {
				line = entry(table, cells)
			}
		}
		b.WriteString(line)
	}
	b.WriteString("\n# SEE ALSO\n**plumb**(8)\n")
	return md2man.Render([]byte(b.String())), nil
}

// entry returns a line of a table as an entry of a list, because a terminal is
// too narrow for tables: the first cell, and then what the others say.
func entry(table, cells []string) string {
	if strings.HasPrefix(cells[0], "---") {
		return ""
	}
	var text string
	var aside []string
	for i, cell := range cells[1:] {
		switch heading := strings.ToLower(table[i+1]); {
		case cell == "":
		case heading == "meaning" || len(table) == 2:
			text = cell
		case heading == "type":
			aside = append(aside, cell)
		default:
			aside = append(aside, heading+": "+cell)
		}
	}
	if text == "" {
		text = strings.Join(aside, "; ")
	} else if aside != nil {
		text += " (" + strings.Join(aside, "; ") + ")"
	}
	return fmt.Sprintf("%s\n: %s\n\n", cells[0], text)
}

// replaceLink turns a link to another plugin's document into the name of its
// page, and leaves out where others lead that are no address.
func replaceLink(s string) string {
	parts := link.FindStringSubmatch(s)
	text, target := parts[1], parts[2]
	if strings.Contains(target, "://") {
		return s
	}
	name, ok := strings.CutSuffix(target, ".md")
	if ok && docs.Plugin(name) != "" {
		return fmt.Sprintf("**%s**(%s)", PageName(name), Section)
	}
	return text
}

package manual

import (
	"strings"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/plugins/all"
)

// TestPlugin looks for what a page has to have: the line that apropos reads, all
// keys, the example, and nothing of Markdown.
func TestPlugin(t *testing.T) {
	for _, p := range all.Plugins() {
		data, err := Plugin(p.Name(), "1.2.3", time.Unix(0, 0).UTC())
		if err != nil {
			t.Error(err)
			continue
		}
		// roff writes a hyphen, a dot at the start and a font its own way.
		page := strings.NewReplacer(`\-`, "-", `\&`, "", `\fB`, "", `\fR`, "", `\fI`, "", `\fP`, "").Replace(string(data))
		for _, want := range []string{
			"PLUMB-" + strings.ToUpper(p.Name()), "1970-01-01", "plumb 1.2.3", "\n.SH NAME\nplumb-" + p.Name() + " - ", `"type": "` + p.Name() + `"`,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q", p.Name(), want)
			}
		}
		for _, key := range p.Keys() {
			if last := key[strings.LastIndex(key, ".")+1:]; !strings.Contains(page, last) {
				t.Errorf("%s: the page lacks the key %s", p.Name(), key)
			}
		}
		for _, other := range []string{"|---", ".md", "## ", "```"} {
			if strings.Contains(page, other) {
				t.Errorf("%s: the page has %q", p.Name(), other)
			}
		}
	}
}

package keys_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/plumb-cni/plumb/plugins/all"
	"github.com/plumb-cni/plumb/test/host"
)

var update = flag.Bool("update", false, "write docs/keys.md")

// A key is one of a plugin's.
type key struct{ plugin, name string }

func (k key) String() string { return k.plugin + " " + k.name }

func (k key) compare(l key) int { return strings.Compare(k.String(), l.String()) }

// ofSpecification are keys that plugins read by way of the specification's
// types, not of a type of their own.
var ofSpecification = []key{
	{"bridge", "CNI_ARGS.MAC"}, {"bridge", "dns"}, {"bridge", "ipam"},
	{"dhcp", "CNI_ARGS.MAC"},
	{"dnsname", "CNI_ARGS.K8S_POD_NAME"},
	{"host-device", "dns"}, {"host-device", "ipam"},
	{"dummy", "dns"}, {"dummy", "ipam"},
	{"host-local", "CNI_ARGS.IP"},
	{"ipvlan", "dns"}, {"ipvlan", "ipam"}, {"ipvlan", "prevResult"},
	{"loopback", "prevResult"},
	{"macvlan", "CNI_ARGS.MAC"}, {"macvlan", "dns"}, {"macvlan", "ipam"},
	{"ptp", "dns"}, {"ptp", "ipam"},
	{"static", "CNI_ARGS.GATEWAY"}, {"static", "CNI_ARGS.IP"},
	{"tap", "CNI_ARGS.MAC"}, {"tap", "dns"}, {"tap", "ipam"},
	{"tuning", "CNI_ARGS.MAC"},
	{"vlan", "dns"}, {"vlan", "ipam"},
}

// known returns all keys that our plugins read, sorted.
func known() []key {
	list := slices.Clone(ofSpecification)
	for _, p := range all.Plugins() {
		for _, name := range p.Keys() {
			list = append(list, key{p.Name(), name})
		}
	}
	slices.SortFunc(list, key.compare)
	return slices.Compact(list)
}

// documented returns the keys of testdata/documented.txt, and whether we refuse
// them.
func documented(t *testing.T) map[key]bool {
	t.Helper()
	data, err := os.ReadFile("testdata/documented.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[key]bool)
	for line := range strings.Lines(string(data)) {
		if plugin, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && plugin != "#" {
			name, refused := strings.CutSuffix(name, "*")
			list[key{plugin, name}] = refused
		}
	}
	return list
}

// A test is where a declaration stands.
type test struct{ file, name string }

// covered returns the declarations of all tests of the module.
func covered(t *testing.T, root string) map[key][]test {
	t.Helper()
	found := make(map[key][]test)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return fs.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(path, "*_test.go"))
		if err != nil {
			return err
		}
		return inPackage(t, root, files, found)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// inPackage adds the declarations in the files of one package. It is an error
// of the test if nothing else in these files mentions the key.
func inPackage(t *testing.T, root string, files []string, found map[key][]test) error {
	t.Helper()
	declared := make(map[key]bool)
	var texts strings.Builder // what all other literals say
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		short, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			where := test{file: filepath.ToSlash(short)}
			if fn, ok := decl.(*ast.FuncDecl); ok {
				where.name = fn.Name.Name
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if !isCovers(n.Fun) {
						return true
					}
					for _, k := range declaration(t, where, n) {
						found[k], declared[k] = append(found[k], where), true
					}
					return false
				case *ast.BasicLit:
					texts.WriteString(n.Value + "\n")
				}
				return true
			})
		}
	}
	for k := range declared {
		mention := k.name[strings.LastIndex(k.name, ".")+1:]
		if strings.HasPrefix(k.name, "CNI_ARGS.") {
			mention += "="
		}
		if !strings.Contains(texts.String(), mention) {
			t.Errorf("%s: declared to cover %s, but no test there mentions it", filepath.Dir(files[0]), k)
		}
	}
	return nil
}

func isCovers(fun ast.Expr) bool {
	s, ok := fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != "Covers" {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "keys"
}

// declaration returns the keys of one call of Covers.
func declaration(t *testing.T, where test, call *ast.CallExpr) []key {
	t.Helper()
	var words []string
	for _, arg := range call.Args[min(1, len(call.Args)):] {
		lit, ok := arg.(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: %s: the arguments of keys.Covers have to be literals", where.file, where.name)
			return nil
		}
		word, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, word)
	}
	if len(words) < 2 || !strings.HasPrefix(where.name, "Test") {
		t.Errorf("%s: %s: keys.Covers is for a plugin and its keys, within a test", where.file, where.name)
		return nil
	}
	var list []key
	for _, name := range words[1:] {
		list = append(list, key{words[0], name})
	}
	return list
}

// TestKeys finds the keys that no test exercises, and the declarations and
// documents about keys that there aren't.
func TestKeys(t *testing.T) {
	root := host.Root(t)
	keys, tests, ofReference := known(), covered(t, root), documented(t)
	for _, k := range keys {
		if len(tests[k]) == 0 {
			t.Errorf("no test covers %s", k)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(tests), key.compare) {
		if !slices.Contains(keys, k) {
			t.Errorf("%s: %s covers %s, which there isn't", tests[k][0].file, tests[k][0].name, k)
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(ofReference), key.compare) {
		if !slices.Contains(keys, k) {
			t.Errorf("the reference documents %s, which we lack", k)
		}
	}

	file := filepath.Join(root, "docs/keys.md")
	want := table(keys, tests, ofReference)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("docs/keys.md is not what it should be (%v): go test ./test/keys -update writes it", err)
	}
}

// table writes docs/keys.md.
func table(keys []key, tests map[key][]test, ofReference map[key]bool) string {
	var b strings.Builder
	b.WriteString(`# Configuration keys

Every key that a plugin reads beyond cniVersion, name and type, and the tests that fail if it doesn't. Nested keys are
written with dots; those below CNI_ARGS are entries of that variable, and those below runtimeConfig are sent by runtimes to
which the configuration grants the capability.

Written by ` + "`go test ./test/keys -update`" + ` from the types that configurations are decoded into and from the
tests, which declare what they cover.
`)
	plugin := ""
	for _, k := range keys {
		if k.plugin != plugin {
			plugin = k.plugin
			fmt.Fprintf(&b, "\n## %s\n\n| key | | tests |\n|---|---|---|\n", plugin)
		}
		note := "not in the reference's document"
		if refused, ok := ofReference[k]; refused {
			note = "refused until supported"
		} else if ok {
			note = ""
		}
		var links []string
		for _, where := range tests[k] {
			links = append(links, fmt.Sprintf("[%s %s](../%s)", filepath.ToSlash(filepath.Dir(where.file)), where.name, where.file))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.name, note, strings.Join(slices.Compact(links), ", "))
	}
	return b.String()
}

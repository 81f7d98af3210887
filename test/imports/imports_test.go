// Package imports holds which way imports run, and what packages may not have that run in other people's processes.
package imports

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/plumb-cni/plumb"

// A listing is what `go list -deps` says of a package.
type listing struct {
	ImportPath string
	Dir        string
	Standard   bool
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// list lists all packages of the module and what they need, by their short path.
func list(t *testing.T) map[string]listing {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	packages := make(map[string]listing)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listing
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[short(p.ImportPath)] = p
	}
	return packages
}

// short is a path with ./ in the place of the module's.
func short(path string) string {
	if below, ok := strings.CutPrefix(path, module+"/"); ok {
		return "./" + below
	}
	return path
}

// matches tells whether a package is of a pattern: itself, or below what ends with /... .
func matches(path string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, all := strings.CutSuffix(p, "/...")
		return path == p || all && (path == below || strings.HasPrefix(path, below+"/"))
	})
}

// linked are the packages that are linked into a plugin, and so perhaps into a process that lives on.
var linked = []string{"./cni/...", "./state/...", "./plugin/...", "./plugins/...", "./ipam/...", "./internal/..."}

// rules say what packages need, directly or not, of this module and of others.
var rules = []struct {
	of   []string
	only []string // of the module, and of other modules
	not  []string
}{
	{of: []string{"./cni/..."}, only: []string{"./cni/..."}},
	{of: []string{"./protocol/..."}, only: []string{"./cni/...", "./protocol/..."}},
	{of: []string{"./runtime/..."}, only: []string{"./cni/...", "./runtime/..."}},
	{of: []string{"./cnitool/..."}, only: []string{"./cni/...", "./runtime/...", "./cnitool/..."}},
	{of: []string{"./state"}, not: []string{"./plugin/...", "./plugins/...", "./ipam/..."}},
	{of: []string{"./state/..."}, not: []string{"./plugin/...", "./plugins/...", "./ipam/...", "./protocol/...", "./runtime/..."}},
	{of: []string{"./internal/rtnl", "./internal/nftconn", "./internal/netns", "./internal/iptables", "./internal/addrstore", "./internal/dbus"}, not: []string{"./state/...", "./plugin/...", "./plugins/...", "./ipam/...", "./protocol/...", "./runtime/..."}},
	{of: []string{"./plugin/..."}, not: []string{"./plugins/...", "./ipam/...", "./protocol/...", "./runtime/..."}},
	{of: []string{"./cmd/plumb-cni"}, not: []string{"./plugins/dnsname/resolver", "./ipam/dhcp/daemon", "crypto/tls", "net/http"}},
	{of: []string{"./plugins/...", "./ipam/..."}, not: []string{"./protocol/...", "./runtime/...", "./cnitool/...", "net/http", "flag"}},
	// What starts with every container.
	{of: []string{"./cmd/plumb-cni", "./cmd/plumb-runc", "./internal/docker"}, not: []string{"./internal/docker/engine", "github.com/moby/...", "github.com/spf13/...", "net/http"}},
}

// netlink are the libraries that speak to the kernel; golang.org/x/sys has but numbers and system calls.
var netlink = []string{"github.com/vishvananda/netlink/...", "github.com/vishvananda/netns/...", "github.com/mdlayher/...", "github.com/google/nftables/..."}

// owned are the libraries that one package wraps, because what else they have changes the process or reads its environment.
var owned = map[string]string{"github.com/godbus/dbus/v5/...": "./internal/dbus"}

func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 30 || packages["./cni"].Dir == "" {
		t.Fatalf("go list shows %d packages", len(packages))
	}
	for path, p := range packages {
		if !strings.HasPrefix(path, "./") {
			continue
		}
		for _, rule := range rules {
			if !matches(path, rule.of...) {
				continue
			}
			for _, dep := range p.Deps {
				dep = short(dep)
				if matches(dep, rule.not...) {
					t.Errorf("%s needs %s", path, dep)
				}
				if rule.only != nil && !packages[dep].Standard && !matches(dep, rule.only...) {
					t.Errorf("%s needs %s, and may only need %v and the standard library", path, dep, rule.only)
				}
			}
		}
		for _, dep := range p.Imports {
			dep = short(dep)
			if matches(dep, netlink...) && !matches(path, "./internal/rtnl", "./internal/nftconn") {
				t.Errorf("%s imports %s: only internal/rtnl and internal/nftconn do", path, dep)
			}
			for library, owner := range owned {
				if matches(dep, library) && path != owner {
					t.Errorf("%s imports %s: only %s does", path, dep, owner)
				}
			}
			one, other := sibling(path), sibling(dep)
			if one != "" && other != "" && one != other {
				t.Errorf("%s imports %s: plugins don't know each other", path, dep)
			}
			if dep == "os/exec" && matches(path, "./state", "./plugin/...", "./plugins/...", "./ipam/...") {
				t.Errorf("%s executes programs", path)
			}
			if path == "./state" && strings.HasPrefix(dep, "./state/") {
				t.Errorf("%s imports %s: kinds know the engine, and not the other way round", path, dep)
			}
		}
	}
}

// sibling is the plugin that a package belongs to, "" for what is no plugin's.
func sibling(path string) string {
	for _, room := range []string{"./plugins/", "./ipam/"} {
		if name, ok := strings.CutPrefix(path, room); ok && path != "./plugins/all" {
			name, _, _ = strings.Cut(name, "/")
			return room + name
		}
	}
	return ""
}

// forbidden are the parts of a process that belong to whoever started it.
var forbidden = map[string][]string{
	"os":      {"Stdout", "Stdin", "Args", "Getenv", "LookupEnv", "Environ", "Setenv", "Getwd", "Chdir", "Exit"},
	"exec":    {"LookPath"},
	"syscall": {"Umask"},
	"unix":    {"Umask", "Unshare"},
	"fmt":     {"Print", "Printf", "Println"},
	"log":     {"Print", "Printf", "Println", "Fatal", "Fatalf"},
}

// TestNoStateOfTheProcess reads the source of what plugins link: no init, no variable of a package that changes, and nothing of
// the process that isn't theirs.
func TestNoStateOfTheProcess(t *testing.T) {
	files := 0
	for path, p := range list(t) {
		if !matches(path, linked...) {
			continue
		}
		for _, name := range p.GoFiles {
			files++
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil && d.Name.Name == "init" {
						t.Errorf("%s: init", set.Position(d.Pos()))
					}
					if marshals(d) {
						t.Errorf("%s: %s is promoted to whoever embeds the type, whose own fields then vanish", set.Position(d.Pos()), d.Name.Name)
					}
					if inherits(d) {
						t.Errorf("%s: %s starts a program and doesn't set its Env", set.Position(d.Pos()), d.Name.Name)
					}
				case *ast.GenDecl:
					if d.Tok == token.VAR {
						for _, s := range d.Specs {
							if v := s.(*ast.ValueSpec); !constant(v) {
								t.Errorf("%s: variable %s of the package", set.Position(v.Pos()), v.Names[0].Name)
							}
						}
					}
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if of, ok := s.X.(*ast.Ident); ok && slices.Contains(forbidden[of.Name], s.Sel.Name) {
						t.Errorf("%s: %s.%s", set.Position(n.Pos()), of.Name, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if files < 30 {
		t.Errorf("only %d files", files)
	}
}

// marshals tells whether a function is a method of an exported type that encoding/json takes for the whole of a value.
func marshals(f *ast.FuncDecl) bool {
	if f.Recv == nil || !slices.Contains([]string{"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText"}, f.Name.Name) {
		return false
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	name, ok := of.(*ast.Ident)
	return !ok || name.IsExported()
}

// inherits tells whether a function makes a command and leaves it the environment of the process.
func inherits(f *ast.FuncDecl) bool {
	command, env := false, false
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			of, ok := n.X.(*ast.Ident)
			command = command || ok && of.Name == "exec" && strings.HasPrefix(n.Sel.Name, "Command")
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				s, ok := to.(*ast.SelectorExpr)
				env = env || ok && s.Sel.Name == "Env"
			}
		}
		return true
	})
	return command && !env
}

// constant tells whether a variable is one in name only: a guard of the compiler's, an error's identity, or what a package can't
// be without and nobody assigns to, a compiled expression.
func constant(v *ast.ValueSpec) bool {
	if v.Names[0].Name == "_" {
		return true
	}
	if len(v.Values) != 1 {
		return false
	}
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := f.X.(*ast.Ident)
	return ok && (of.Name == "errors" && f.Sel.Name == "New" || of.Name == "regexp" && f.Sel.Name == "MustCompile")
}

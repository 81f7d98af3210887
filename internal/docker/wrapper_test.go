package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]command{
		"": {},
		"--root /r --log /l --log-format json create --bundle /b --pid-file /p id": {"create", "/b", "id", "/l", true},
		"--log=/l create -b=/b id":                               {"create", "/b", "id", "/l", false},
		"--systemd-cgroup --log create --debug create -b run id": {"create", "run", "id", "create", false},
		"run --no-pivot --console-socket create -- id":           {"run", "", "id", "", false},
		"--root=create start id":                                 {"start", "", "", "", false},
		"--version":                                              {},
		"create":                                                 {"create", "", "", "", false},
		"create --bundle":                                        {"create", "", "", "", false},
		"--cgroup-manager systemd --log-level debug create -f c i": {"create", "", "i", "", false},
		"exec --process create id":                                 {"exec", "", "", "", false},
	} {
		if got := parseCommand(strings.Fields(line)); got != want {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	}
}

// engine lays a container's files out as Docker does, with a bundle, and returns their folders.
func engine(t *testing.T, labels, namespace string) (dir, bundleDir string) {
	t.Helper()
	dir, bundleDir = filepath.Join(t.TempDir(), "containers", "abc"), t.TempDir()
	for path, content := range map[string]string{
		filepath.Join(dir, "config.v2.json"):  `{"ID":"abc","Name":"/web","Config":{"Hostname":"web","Labels":` + labels + `},"NetworkSettings":{"Networks":{"none":null}}}`,
		filepath.Join(dir, "hostconfig.json"): `{"NetworkMode":"none","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"Dns":[],"AutoRemove":true}`,
		filepath.Join(bundleDir, "config.json"): fmt.Sprintf(`{"ociVersion":"1.0.2-dev","big":18446744073709551615,"linux":{"namespaces":[{"type":"mount"},%s],"x":1.0},
			"hooks":{"prestart":[{"path":"/proc/1/exe","args":["libnetwork-setkey","-exec-root=/run/e","abc","123"]}]},
			"mounts":[{"destination":"/proc","source":"proc"},{"destination":"/etc/hosts","source":"/home/me/hosts"},{"destination":"/etc/hostname","source":%q}]}`,
			namespace, filepath.Join(filepath.Dir(dir), "other", "hostname")),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir, bundleDir
}

// spec is what the tests look at in a bundle.
type spec struct {
	Big   json.Number
	Linux struct{ X json.RawMessage }
	Hooks map[string][]hook
}

func readSpec(t *testing.T, dir string) (s spec, raw string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	return s, string(data)
}

func TestPrepare(t *testing.T) {
	const own = `{"type":"network"}`
	w := &Wrapper{Self: "/bin/plumb-runc", HookEnv: []string{"PATH=/bin"}, Options: []string{"--plumb-netdir=/n"}, Records: Records{t.TempDir()}}
	dir, bundleDir := engine(t, `{"plumb.networks":"a"}`, own)
	if err := w.Prepare([]string{"create", "--bundle", bundleDir, "abc"}); err != nil {
		t.Fatal(err)
	}
	s, raw := readSpec(t, bundleDir)
	if s.Big != "18446744073709551615" || string(s.Linux.X) != "1.0" {
		t.Errorf("numbers have changed:\n%s", raw)
	}
	want := map[string][]hook{
		"prestart":      {{Path: "/proc/1/exe", Args: []string{"libnetwork-setkey", "-exec-root=/run/e", "abc", "123"}}},
		"createRuntime": {{Path: "/bin/plumb-runc", Args: []string{"plumb-runc", HookStart, "--plumb-netdir=/n", dir, "/run/e/netns"}, Env: []string{"PATH=/bin"}}},
		"poststop":      {{Path: "/bin/plumb-runc", Args: []string{"plumb-runc", HookStop, "--plumb-netdir=/n", dir}, Env: []string{"PATH=/bin"}}},
	}
	if got := fmt.Sprint(s.Hooks); got != fmt.Sprint(want) {
		t.Errorf("hooks\n%s\nwant\n%v", got, want)
	}
	if info, err := os.Stat(filepath.Join(bundleDir, "config.json")); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode of the bundle: %v %v", info.Mode(), err)
	}

	for name, c := range map[string]struct {
		labels, namespace string
		args              string
		known             bool
		hooks             string // of plumb's, in order of the alphabet
		err               string
	}{
		"no label":                 {`{}`, own, "create -b BUNDLE abc", false, "poststop", ""},
		"no label, but known":      {`{}`, own, "create -b BUNDLE abc", true, "createRuntime poststop", ""},
		"another's namespace":      {`{}`, `{"type":"network","path":"/proc/1/ns/net"}`, "create -b BUNDLE abc", false, "", ""},
		"another command":          {`{"plumb.networks":"a"}`, own, "start abc", false, "", ""},
		"not Docker's":             {`{"plumb.networks":"a"}`, own, "create -b BUNDLE xyz", false, "", ""},
		"no bundle":                {`{"plumb.networks":"a"}`, own, "create -b /nosuch abc", false, "", ""},
		"a label that is wrong":    {`{"plumb.networks":"a b"}`, own, "--log LOG --log-format json create -b BUNDLE abc", false, "", `invalid network name "a b"`},
		"files that can't be read": {`{"plumb.networks":7}`, own, "create -b BUNDLE abc", false, "", "config.v2.json"},
	} {
		dir, bundleDir := engine(t, c.labels, c.namespace)
		log := filepath.Join(t.TempDir(), "log")
		w.Records.Dir = t.TempDir()
		if c.known {
			if err := os.Mkdir(filepath.Join(w.Records.Dir, "abc"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, before := readSpec(t, bundleDir)
		err := w.Prepare(strings.Fields(strings.NewReplacer("BUNDLE", bundleDir, "LOG", log).Replace(c.args)))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		s, after := readSpec(t, bundleDir)
		var got []string
		for _, stage := range []string{"createRuntime", "poststop"} {
			for range s.Hooks[stage] {
				got = append(got, stage)
			}
		}
		if strings.Join(got, " ") != c.hooks {
			t.Errorf("%s: hooks %q of %s, want %q", name, got, dir, c.hooks)
		}
		if c.hooks == "" && after != before {
			t.Errorf("%s: the bundle was changed to\n%s", name, after)
		}
		if strings.Contains(c.args, "LOG") {
			var line struct{ Level, Msg string }
			data, _ := os.ReadFile(log)
			if err := json.Unmarshal(data, &line); err != nil || line.Level != "error" || !strings.Contains(line.Msg, c.err) {
				t.Errorf("%s: the log holds %s", name, data)
			}
		}
	}
}

func TestReadContainer(t *testing.T) {
	dir, _ := engine(t, `{"plumb.networks":"a"}`, `{}`)
	c, err := ReadContainer(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "abc" || c.Name != "web" || c.Hostname != "web" || c.Root != filepath.Dir(filepath.Dir(dir)) || c.Mode != modeNone ||
		!c.AutoRemove || c.Interfaces != 0 || c.Bindings["80/tcp"][0].HostPort != "8080" {
		t.Errorf("%+v", c)
	}
	if err := os.Rename(dir, filepath.Join(filepath.Dir(dir), "xyz")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadContainer(filepath.Join(filepath.Dir(dir), "xyz")); err == nil {
		t.Error("a folder of another container is read")
	}
}

func TestResolvConf(t *testing.T) {
	old := "# made\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch x\ndomain y\noptions ndots:1"
	for _, c := range []struct {
		values map[string][]string
		want   string
	}{
		{nil, old + "\n"},
		{map[string][]string{"nameserver": {"10.0.0.1", "10.0.0.2"}}, "# made\nsearch x\ndomain y\noptions ndots:1\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"},
		{map[string][]string{"search": {"a", "b"}, "options": {"ndots:2"}}, "# made\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a b\noptions ndots:2\n"},
	} {
		if got := resolvConf(old, c.values); got != c.want {
			t.Errorf("%v:\n%s\nwant\n%s", c.values, got, c.want)
		}
	}
}

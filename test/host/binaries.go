package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ReferenceVersion is the release of the reference plugins that ours are compared with.
const ReferenceVersion = "v1.9.1"

// debianVersion is what Debian 12 ships: the oldest release that one meets in the field.
const debianVersion = "1.1.1"

// binEnv names a folder that already has what Bin would build. scripts/test-vm sets it for a machine without a compiler.
const binEnv = "PLUMB_TEST_BIN"

// Bin builds the plugins as make build does, those that are installed on request included, once per test process, and returns their folder: what
// CNI_PATH should be.
func Bin(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv(binEnv); dir != "" {
		return dir
	}
	root := Root(t)
	watch(root)
	dir, err := buildBin(root)
	if err != nil {
		t.Fatalf("build the plugins: %v", err)
	}
	return dir
}

// built is the folder that all tests of a process share.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// builtPrefix begins the names of these folders; the ID of the process outside follows, which removes them.
const builtPrefix = "plumb-test-bin-"

// removeBuilt removes the folders of this process's children, and those of processes that were killed.
func removeBuilt() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), builtPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), builtPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && (pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)) {
			os.RemoveAll(dir)
		}
	}
}

func buildBin(root string) (string, error) {
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", builtPrefix+os.Getenv(insideEnv)+"-"); built.err == nil {
			// Outside, because a module may have to be downloaded for what this package doesn't import.
			_, built.err = try(Outside(root, filepath.Join(root, "scripts/build"), built.dir, "all"))
		}
	})
	return built.dir, built.err
}

// watch looks at every source file, so that go test counts them as inputs of the test and doesn't answer from its cache
// after one has changed that the test binary itself doesn't contain.
func watch(root string) {
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // its callback returns none
		switch name := filepath.Base(path); {
		case err != nil:
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			os.Stat(path) //nolint:errcheck // being seen to look is all
		}
		return nil
	})
}

// Env returns the environment of a plugin: the CNI_ variables of the protocol that aren't empty here, and PATH.
func Env(verb, containerID, netns, ifname string, path ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, kv := range [][2]string{
		{"CNI_COMMAND", verb}, {"CNI_CONTAINERID", containerID}, {"CNI_NETNS", netns}, {"CNI_IFNAME", ifname}, {"CNI_PATH", strings.Join(path, ":")},
	} {
		if kv[1] != "" {
			env = append(env, kv[0]+"="+kv[1])
		}
	}
	return env
}

// Plugin executes BIN/NAME with exactly that environment and standard input and returns what it wrote and its exit status. It fails the test when the
// plugin doesn't start, is ended by a signal, or takes more than a minute.
func Plugin(t testing.TB, bin, name string, env []string, stdin string) (stdout, stderr string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name))
	cmd.Env = slices.Concat(env, []string{}) // never nil, which would mean this process's own
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var ee *exec.ExitError
	if err != nil && (!errors.As(err, &ee) || !ee.Exited()) {
		t.Fatalf("%s: %v\n%s%s", name, err, o.String(), e.String())
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// Reference returns a folder with the reference plugins of ReferenceVersion, built from source at the first use on a machine.
func Reference(t testing.TB) string {
	t.Helper()
	return cached(t, "reference-"+ReferenceVersion+"-"+runtime.GOARCH, func(dir string) error {
		cmd := Outside(dir, "go", "install", "-trimpath", "github.com/containernetworking/plugins/plugins/...@"+ReferenceVersion)
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		_, err := try(cmd)
		return err
	})
}

// DebianPlugins returns a folder with the plugins of Debian 12's package, fetched (not installed) at the first use on a machine.
func DebianPlugins(t testing.TB) string {
	t.Helper()
	dir := cached(t, "debian-"+debianVersion+"-"+runtime.GOARCH, func(dir string) error {
		_, err := try(exec.Command("dpkg", "-x", DebianPackage(t), dir))
		return err
	})
	return filepath.Join(dir, "usr/lib/cni")
}

// DebianPackage returns the file of Debian 12's package of plugins, fetched at the first use on a machine.
func DebianPackage(t testing.TB) string {
	t.Helper()
	dir := cached(t, "debian-package-"+debianVersion+"-"+runtime.GOARCH, func(dir string) error {
		// The listing may be missing, as in a container's image, or older than what the mirror still has.
		script := `apt-get -qq download containernetworking-plugins || { apt-get -qq update && apt-get -qq download containernetworking-plugins; }
			dpkg-deb -f ./*.deb Version | grep -q "^` + debianVersion + `" || { echo "this is not the package of Debian 12:" ./*.deb >&2; exit 1; }
			mv ./*.deb plugins.deb`
		_, err := try(Outside(dir, "sh", "-ec", script))
		return err
	})
	return filepath.Join(dir, "plugins.deb")
}

// cached returns the folder of that name in the user's cache, which fill makes when it is missing. Test processes that want it at the same time
// wait for the first of them; one that dies half-way leaves nothing that looks complete.
func cached(t testing.TB, name string, fill func(dir string) error) string {
	t.Helper()
	fail := func(err error) {
		if err != nil {
			t.Fatalf("prepare %s: %v", name, err)
		}
	}
	base, err := os.UserCacheDir()
	fail(err)
	base = filepath.Join(base, "plumb-test")
	fail(os.MkdirAll(base, 0o755))
	dir := filepath.Join(base, name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	fail(err)
	defer lock.Close()
	fail(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	partial := dir + ".partial"
	fail(os.RemoveAll(partial))
	fail(os.Mkdir(partial, 0o755))
	if err := fill(partial); err != nil {
		fail(fmt.Errorf("%w (this needs the network, once)", err))
	}
	fail(os.Rename(partial, dir))
	return dir
}

package node

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/test/host"
)

// Port is where a container of Image answers, on TCP and UDP, with a host.Answer whose Server is its host name.
const Port = 80

// Image writes an image of that name ("answer:1") in the format of docker save, which podman, ctr and docker load, and returns the
// path of the file. In it are busybox and the server that answers on Port, which a container runs unless it is told
// something else.
func Image(t testing.TB, name string) string {
	t.Helper()
	layer, err := rootFS(t)
	if err != nil {
		t.Fatalf("make the image: %v", err)
	}
	config := map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Cmd": []string{"/bin/answer"}, "Env": []string{"PATH=/bin"}, "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	}
	manifest := []map[string]any{{"Config": "config.json", "RepoTags": []string{"docker.io/library/" + name}, "Layers": []string{"layer.tar"}}}
	path := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for _, part := range []struct {
		name    string
		content any
	}{{"layer.tar", layer}, {"config.json", config}, {"manifest.json", manifest}} {
		data, ok := part.content.([]byte)
		if !ok {
			if data, err = json.Marshal(part.content); err != nil {
				t.Fatal(err)
			}
		}
		if err := add(w, tar.Header{Name: part.name, Mode: 0o644}, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// root is the only layer of the image, made once per test process.
var root struct {
	once  sync.Once
	layer []byte
	err   error
}

func rootFS(t testing.TB) ([]byte, error) {
	root.once.Do(func() { root.layer, root.err = makeRootFS(t) })
	return root.layer, root.err
}

func makeRootFS(t testing.TB) ([]byte, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: scripts/deps runtimes installs it", err)
	}
	if err := static(busybox); err != nil {
		return nil, err
	}
	server := filepath.Join(t.TempDir(), "answer")
	build := host.Outside(filepath.Join(host.Root(t), "test/runtimes"), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", server, "./answer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", build, err, said)
	}
	names, err := host.Try(busybox, "--list")
	if err != nil {
		return nil, err
	}

	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"} {
		if err := add(w, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
			return nil, err
		}
	}
	for to, from := range map[string]string{"bin/busybox": busybox, "bin/answer": server} {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := add(w, tar.Header{Name: to, Mode: 0o755}, data); err != nil {
			return nil, err
		}
	}
	if err := add(w, tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\n")); err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(names) {
		if name == "busybox" {
			continue
		}
		if err := add(w, tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return layer.Bytes(), err
}

// static refuses a program that would look for libraries in the image: package busybox instead of busybox-static.
func static(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err == nil && len(libraries) > 0 {
		return fmt.Errorf("%s needs %v: the image takes the one of package busybox-static", program, libraries)
	}
	return nil
}

func add(w *tar.Writer, h tar.Header, data []byte) error {
	h.Size = int64(len(data))
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

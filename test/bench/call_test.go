package bench

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// A call is the execution of a program.
type call struct {
	program string
	args    []string
	env     []string
	stdin   string
	through []string // the command that executes it, with its arguments; nil for none
}

// run executes the program and returns what it wrote to standard output and how
// long it took, from before its start until its end was known. Its streams are
// files, so that nothing but the process is waited for. It fails the test if
// the program fails.
func (c call) run(t testing.TB) (answer []byte, took time.Duration) {
	t.Helper()
	stdin, stdout := file(t, c.stdin), file(t, "")
	defer stdin.Close()
	argv := slices.Concat(c.through, []string{c.program}, c.args)
	attr := &os.ProcAttr{Env: c.env, Files: []*os.File{stdin, stdout, os.Stderr}}

	start := time.Now()
	p, err := os.StartProcess(argv[0], argv, attr)
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	took = time.Since(start)

	answer = contents(t, stdout)
	if err != nil || !state.Success() {
		t.Fatalf("%v %v: %v, %v\n%s", c.env, argv, state, err, answer)
	}
	return answer, took
}

// file returns an open file in memory with that content and without a name.
func file(t testing.TB, content string) *os.File {
	t.Helper()
	f, err := os.CreateTemp("/run", "bench-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	if err == nil {
		_, err = f.WriteString(content)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// contents returns what others have written to a file of file, and closes it.
func contents(t testing.TB, f *os.File) []byte {
	t.Helper()
	defer f.Close()
	_, err := f.Seek(0, io.SeekStart)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lookPath returns the path of a program that scripts/deps installs.
func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run scripts/deps", err)
	}
	return path
}

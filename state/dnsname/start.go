package dnsname

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/internal/dirlock"
	"github.com/plumb-cni/plumb/internal/netns"
	"github.com/plumb-cni/plumb/internal/programs"
	"github.com/plumb-cni/plumb/state"
)

// Command is the subcommand of the program that becomes the resolver. Its
// arguments are the folder and the number of a descriptor: the socket, which
// listens already.
const Command = "dnsname-resolver"

// firstExtra is the descriptor that a child gets the first of its extra files as.
const firstExtra = 3

// Args returns what the program is started with.
func Args(folder string, socket int) []string { return []string{Command, folder, strconv.Itoa(socket)} }

// Env returns the environment of a resolver.
func Env() []string { return []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin"} }

// attempts bounds how often a resolver is started or looked for anew: one may be
// ending at any time, since nothing was left for it to do.
const attempts = 5

// A host is where there is a resolver, or ought to be.
type host struct {
	folder string
	ns     *netns.NS

	// path are folders where the program may be, if it is not beside the one
	// that runs.
	path []string
}

func hostOf(r state.Reader, path []string) (*host, error) {
	folder, err := folderOf(r)
	if err != nil {
		return nil, err
	}
	ns, err := r.Namespace(state.Host)
	if err != nil {
		return nil, err
	}
	return &host{folder: folder, ns: ns, path: path}, nil
}

// ask asks the resolver, which is started if there is none.
func (h *host) ask(ctx context.Context, q Request) (*Answer, error) {
	var exit error // of a resolver that was started here, and has ended
	for range attempts {
		a, err := call(ctx, h.folder, q)
		if !errors.Is(err, errNobody) {
			return a, err
		}
		exit = err
		if err := h.start(ctx); err != nil {
			return nil, err
		}
	}
	return nil, cni.Errorf(cni.CodeTryAgain, "the resolver ends each time that it is started: %w", exit)
}

// start starts a resolver unless there is one by now. What listens is made here,
// under a lock of the folder: so there never are two, and whoever asks after this
// waits for the one until it is ready.
func (h *host) start(ctx context.Context) error {
	program, err := h.program()
	if err != nil {
		return err
	}
	unlock, err := dirlock.Lock(ctx, h.folder)
	if err != nil {
		return err
	}
	defer unlock()
	socket := filepath.Join(h.folder, SocketName)
	if conn, err := net.Dial("unix", socket); err == nil {
		return conn.Close()
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false) // it is the resolver's from now on
	if err := h.exec(program, l); err != nil {
		return errors.Join(err, os.Remove(socket))
	}
	return h.remember(program)
}

// exec starts the program in the host's namespace, in a session of its own and
// with nothing of the caller's. It leaves descriptors that are not closed by an
// exec, and the cgroup, by itself.
func (h *host) exec(program string, l *net.UnixListener) error {
	file, err := l.File()
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.Command(program, Args(h.folder, firstExtra)...)
	cmd.Env = Env()
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The child starts on this thread and so in its namespace.
	if err := h.ns.Do(cmd.Start); err != nil {
		return fmt.Errorf("start the resolver: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // for a caller that lives long; the folder tells the rest
	return nil
}

// programLink is a link in the folder to the program that a resolver was started
// from: a DEL knows no path.
const programLink = "program"

func (h *host) remember(program string) error {
	link := filepath.Join(h.folder, programLink)
	if old, err := os.Readlink(link); err == nil && old == program {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(program, link)
}

// errNoProgram means that the program for people, of which the resolver is a part, is missing.
var errNoProgram = errors.New("the program " + programs.Tool + " is missing, of which the resolver is a part")

// program returns the path of programs.Tool: beside the program that runs, in a folder
// of the path, or where it was when a resolver was started last.
func (h *host) program() (string, error) {
	var tried []string
	if self, err := os.Readlink("/proc/self/exe"); err == nil {
		tried = append(tried, filepath.Join(filepath.Dir(self), programs.Tool))
	}
	for _, dir := range h.path {
		if filepath.IsAbs(dir) {
			tried = append(tried, filepath.Join(dir, programs.Tool))
		}
	}
	if last, err := os.Readlink(filepath.Join(h.folder, programLink)); err == nil {
		tried = append(tried, last)
	}
	for _, path := range tried {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", cni.Errorf(cni.CodeUnavailable, "%w: it is none of %v; install it beside plumb-cni", errNoProgram, tried)
}

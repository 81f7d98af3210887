package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/plumb-cni/plumb/cni"
)

// A Handler is a plugin as the protocol sees it. Serve calls Handle for every
// verb but VERSION, which it answers from Versions.
type Handler interface {
	// Name is the plugin's type, such as "bridge".
	Name() string

	// Versions are the protocol versions that the plugin supports, ascending.
	Versions() []cni.Version

	// Handle serves one request. The result is that of ADD; for other verbs
	// it is ignored. An *cni.Error in the error's chain decides its code.
	Handle(ctx context.Context, req *cni.Request) (*cni.Result, error)
}

// An Environment is all of the outside that a plugin process sees. Getenv,
// Stdin, Stdout and Stderr must be set.
type Environment struct {
	Getenv func(string) string
	Stdin  io.Reader
	Stdout io.Writer // one Write at most: the whole result or the whole error
	Stderr io.Writer

	// HostNS is a path to the namespace that a sandbox must not be. Empty
	// means the one that the calling thread is in.
	HostNS string

	// Observe, if set, is called once a verb has been decided, after the
	// answer was written: with the request as far as it could be read and the
	// error that was answered, nil on success. It is not called when
	// CNI_COMMAND is missing.
	Observe func(ctx context.Context, req *cni.Request, err error)
}

// OS returns the process's own Environment.
func OS() Environment {
	return Environment{Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
}

// Main serves the request of this process and exits: with 0 on success, else
// with 1. The parameter about is the version to report, "v1.9.1+plumb.0.1.0";
// observe is Environment.Observe and may be nil.
func Main(h Handler, about string, observe func(context.Context, *cni.Request, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(signalDelay, func() {
		caught, _ := Signals(ctx)
		<-caught.Done()
		cancel()
	})
	env := OS()
	env.Observe = observe
	os.Exit(Serve(ctx, h, env, about))
}

// signalDelay is how long a call goes on before signals are caught. An ordinary
// one is over by then, and catching takes the Go runtime a tenth of an ADD. One
// that is killed before leaves what its DEL finds; one that waits for
// something, an IPAM plugin or a lock, gets to undo what it did.
const signalDelay = 20 * time.Millisecond

// Signals returns a context that SIGTERM or SIGINT cancels, so that an ADD
// that is told to stop undoes what it did instead of leaving it half done.
// Later signals of these are swallowed until stop is called.
//
// SIGPIPE is caught meanwhile too: a plugin whose caller is gone must still
// finish its undo rather than die of writing a log line.
func Signals(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	// Caught, not ignored: an ignored signal would be inherited by children.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	return ctx, func() {
		cancel()
		signal.Stop(pipe)
	}
}

// Serve serves one request and returns the exit status: 0 on success, 1 after
// an error, which has been written to standard output then. The parameter
// about is the version to report when there is no CNI_COMMAND.
func Serve(ctx context.Context, h Handler, env Environment, about string) int {
	if env.Getenv("CNI_COMMAND") == "" {
		// Callers parse this: name and semantic version on the first line.
		fmt.Fprintf(env.Stderr, "CNI %s plugin %s\nCNI protocol versions supported: %s\n",
			h.Name(), about, cni.JoinVersions(h.Versions()))
		return 0
	}

	c := call{handler: h, env: env}
	out, err := c.run(ctx)
	if err != nil {
		out = render(err).Encode(c.version)
	}
	if len(out) > 0 {
		out = append(bytes.TrimRight(out, "\n"), '\n')
		if _, werr := env.Stdout.Write(out); werr != nil {
			fmt.Fprintf(env.Stderr, "%s %s: write answer: %v\n", h.Name(), c.req.Verb, werr)
			if err == nil {
				err = cni.Errorf(cni.CodeIO, "write answer: %w", werr)
				if c.req.Verb == cni.VerbAdd {
					err = c.undo(ctx, err)
				}
			}
		}
	}
	if env.Observe != nil {
		env.Observe(ctx, &c.req, err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// A call is one request on its way through Serve.
type call struct {
	handler Handler
	env     Environment
	req     cni.Request
	version cni.Version // of the answer; empty until the configuration has named it
	network string      // empty until then as well
}

// run returns what is to be written on success. A panic becomes an error, its
// stack goes to standard error.
func (c *call) run(ctx context.Context) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(c.env.Stderr, "%s %s: panic: %v\n%s", c.handler.Name(), c.req.Verb, p, debug.Stack())
			out, err = nil, cni.Errorf(cni.CodeInternal, "%s %s: panic: %v", c.handler.Name(), c.req.Verb, p)
		}
	}()

	if err := c.receive(); err != nil {
		return nil, c.tell(err)
	}
	if c.req.Verb == cni.VerbVersion {
		// The configuration was not read, so the answer names the newest
		// version, not the caller's.
		return cni.EncodeVersions("", c.handler.Versions()), nil
	}

	result, err := c.handler.Handle(ctx, &c.req)
	if err != nil || c.req.Verb != cni.VerbAdd {
		return nil, err
	}
	if result == nil {
		result = &cni.Result{}
	}
	out, err = result.Encode(c.version)
	if err != nil {
		return nil, c.undo(ctx, fmt.Errorf("encode result as version %s: %w", c.version, err))
	}
	return out, nil
}

// undo deletes what an ADD has made that could not be answered: the caller will see
// a failed ADD, and a failed ADD leaves nothing. It returns why, and what came of it.
func (c *call) undo(ctx context.Context, why error) error {
	del := c.req
	del.Verb = cni.VerbDel
	if _, err := c.handler.Handle(context.WithoutCancel(ctx), &del); err != nil {
		return errors.Join(why, fmt.Errorf("undo: %w", err))
	}
	return why
}

// Receive reads a request as Serve does, and refuses what Serve refuses, but
// calls nothing of the handler but its Name and Versions, and writes no answer: that is left
// to a caller whose plugins print their results themselves. The request of
// VERSION has nothing but its verb. Errors have a cni.Code.
func Receive(h Handler, env Environment) (*cni.Request, error) {
	c := call{handler: h, env: env}
	if err := c.receive(); err != nil {
		return nil, err
	}
	return &c.req, nil
}

// tell adds to the error of a request that was refused what the call is about, as
// far as that has been read.
func (c *call) tell(err error) error {
	e := cni.AsError(err)
	if errors.Is(err, errUnknownVerb) {
		e = e.WithDetails("it is ADD, CHECK, DEL, GC, STATUS or VERSION, in capitals")
	}
	return e.About(cni.Subject{
		Plugin: c.handler.Name(), Verb: c.req.Verb, Network: c.network, ContainerID: c.req.ContainerID, IfName: c.req.IfName,
	})
}

// receive reads the request and checks it.
func (c *call) receive() (err error) {
	if c.req, err = request(c.env.Getenv); err != nil {
		return err
	}
	if c.req.Verb == cni.VerbVersion {
		return nil // standard input is left alone, as the reference does: some callers keep it open
	}
	if c.req.Config, err = io.ReadAll(c.env.Stdin); err != nil {
		return cni.Errorf(cni.CodeIO, "read configuration from standard input: %w", err)
	}
	if err := c.configure(); err != nil {
		return err
	}
	return c.sandbox()
}

// configure checks what every plugin's configuration must have: that it is a
// JSON object, a network name, and a version that the plugin speaks and that
// knows the verb. The rest of it is the handler's.
func (c *call) configure() error {
	conf, err := cni.Identify(c.req.Config)
	if err != nil {
		return err
	}
	c.network = conf.Name
	versions := c.handler.Versions()
	version := conf.CNIVersion
	if version == "" {
		version = cni.V020 // spec-upgrades.md: the version of configurations that name none
		if !slices.Contains(versions, version) {
			version = cni.V010 // as libcni has it, and the same in all but name
		}
	}
	if version.Supported() {
		c.version = version
	}
	if err := cni.ValidateName(conf.Name); err != nil {
		return err
	}
	if !slices.Contains(versions, version) {
		return cni.Errorf(cni.CodeIncompatibleVersion, "incompatible CNI version %q", version).
			WithDetails(fmt.Sprintf("%s supports %s", c.handler.Name(), cni.JoinVersions(versions)))
	}
	if since := introduced(c.req.Verb); !version.AtLeast(since) {
		return cni.Errorf(cni.CodeIncompatibleVersion, "CNI version %s of network %q has no %s", version, conf.Name, c.req.Verb).
			WithDetails(fmt.Sprintf("%s exists since %s", c.req.Verb, since))
	}
	return nil
}

// introduced is the first version of the protocol that has the verb.
func introduced(verb cni.Verb) cni.Version {
	switch verb {
	case cni.VerbCheck:
		return cni.V040
	case cni.VerbGC, cni.VerbStatus:
		return cni.V110
	}
	return cni.V010
}

// render turns an error into the one that is answered. Errors that were joined
// (errors.Join) are told on one line: the first is the message, the others are
// details. The code is that of the first which carries one.
func render(err error) *cni.Error {
	errs := split(err)
	answer := *cni.AsError(errs[0])
	var details []string
	if answer.Details != "" {
		details = append(details, answer.Details)
	}
	for _, err := range errs[1:] {
		e := cni.AsError(err)
		if answer.Code == cni.CodeInternal {
			answer.Code = e.Code
		}
		details = append(details, e.Error())
	}
	// A join deeper in the chain has left its line breaks in the text.
	answer.Msg = strings.ReplaceAll(answer.Msg, "\n", "; ")
	answer.Details = strings.ReplaceAll(strings.Join(details, "; "), "\n", "; ")
	return &answer
}

// split returns the errors that errors.Join put together, also nested, or err
// alone. An error that merely wraps several, of fmt.Errorf, has a text of its own
// and is not taken apart.
func split(err error) []error {
	// The type has no name here, but any value of it shows it.
	if reflect.TypeOf(err) != reflect.TypeOf(errors.Join(err)) {
		return []error{err}
	}
	var parts []error
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		parts = append(parts, split(e)...)
	}
	return parts
}

package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/runtime"

	"github.com/containernetworking/cni/internal/wire"
	"github.com/containernetworking/cni/pkg/types"
)

// A RawExec starts a process for each call, as plumb's runtime.Exec does: when
// the context ends, the plugin is sent SIGTERM, so that it can undo what it has
// begun, and SIGKILL three seconds later.
type RawExec struct {
	Stderr io.Writer // receives the standard error of plugins; nil discards it
}

// ExecPlugin executes a plugin and returns its standard output. The
// environment is added the trace that the context belongs to; a nil environ is
// that of this process.
//
// An error that the plugin reported is a *types.Error. Any other matches
// *types.Error and *runtime.PluginError (errors.As), and the context's
// error if that has ended.
func (e *RawExec) ExecPlugin(ctx context.Context, pluginPath string, stdinData []byte, environ []string) ([]byte, error) {
	run := runtime.Exec{Stderr: e.Stderr}
	stdout, err := run.Run(runtime.WithEnv(ctx, trace(ctx)...), pluginPath, stdinData, environ)
	if err != nil {
		return nil, failure(err)
	}
	return stdout, nil
}

// FindInPath does what the function of that name does.
func (e *RawExec) FindInPath(plugin string, paths []string) (string, error) {
	return FindInPath(plugin, paths)
}

// failure tells why a call failed.
func failure(err error) error {
	var call *runtime.PluginError
	if !errors.As(err, &call) {
		return err
	}
	if answer, ok := call.Err.(*cni.Error); ok && !errors.Is(answer, runtime.ErrNoAnswer) {
		return wire.Error(answer)
	}
	why := call.Exit
	if call.Err.Error() != runtime.ErrNoAnswer.Error() { // else the exit says as much
		why = call.Err.Error()
		if call.Exit != "" {
			why += ": " + call.Exit
		}
	}
	msg := "netplugin failed with no error message: " + why
	if call.Stderr != "" {
		msg = fmt.Sprintf("netplugin failed: %q: %s", call.Stderr, why)
	}
	return &crash{types.NewError(types.ErrInternal, msg, ""), call}
}

// A crash is a call that ended without an answer.
type crash struct {
	answer *types.Error // in its place
	call   *runtime.PluginError
}

func (c *crash) Error() string   { return c.answer.Error() }
func (c *crash) Unwrap() []error { return []error{c.answer, c.call} }

// trace returns the variables that tell a plugin which trace the context belongs to
// (W3C Trace Context).
func trace(ctx context.Context) []string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	var env []string
	if parent := carrier.Get("traceparent"); parent != "" {
		env = append(env, "TRACEPARENT="+parent)
		if state := carrier.Get("tracestate"); state != "" {
			env = append(env, "TRACESTATE="+state)
		}
		if b := baggage.FromContext(ctx).String(); b != "" {
			env = append(env, "BAGGAGE="+b)
		}
	}
	return env
}

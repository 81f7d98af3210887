package invoke

import (
	"context"
	"os"
	"path/filepath"

	"github.com/plumb-cni/plumb/cni"

	"github.com/containernetworking/cni/pkg/types"
)

// DelegateAdd calls a plugin with ADD for a plugin: with the environment of this
// process, from a folder of its CNI_PATH. A nil exec starts a process.
func DelegateAdd(ctx context.Context, delegatePlugin string, netconf []byte, exec Exec) (types.Result, error) {
	exec = orDefault(exec)
	file, err := find(delegatePlugin, exec)
	if err != nil {
		return nil, err
	}
	return ExecPluginWithResult(ctx, file, netconf, &DelegateArgs{string(cni.VerbAdd)}, exec)
}

// DelegateCheck calls a plugin with CHECK, as DelegateAdd does with ADD.
func DelegateCheck(ctx context.Context, delegatePlugin string, netconf []byte, exec Exec) error {
	return delegate(ctx, cni.VerbCheck, delegatePlugin, netconf, exec)
}

// DelegateDel calls a plugin with DEL, as DelegateAdd does with ADD.
func DelegateDel(ctx context.Context, delegatePlugin string, netconf []byte, exec Exec) error {
	return delegate(ctx, cni.VerbDel, delegatePlugin, netconf, exec)
}

// DelegateStatus calls a plugin with STATUS, as DelegateAdd does with ADD.
func DelegateStatus(ctx context.Context, delegatePlugin string, netconf []byte, exec Exec) error {
	return delegate(ctx, cni.VerbStatus, delegatePlugin, netconf, exec)
}

// DelegateGC calls a plugin with GC, as DelegateAdd does with ADD.
func DelegateGC(ctx context.Context, delegatePlugin string, netconf []byte, exec Exec) error {
	return delegate(ctx, cni.VerbGC, delegatePlugin, netconf, exec)
}

func delegate(ctx context.Context, verb cni.Verb, plugin string, netconf []byte, exec Exec) error {
	exec = orDefault(exec)
	file, err := find(plugin, exec)
	if err != nil {
		return err
	}
	return ExecPluginWithoutResult(ctx, file, netconf, &DelegateArgs{string(verb)}, exec)
}

func find(plugin string, exec Exec) (string, error) {
	return exec.FindInPath(plugin, filepath.SplitList(os.Getenv("CNI_PATH")))
}

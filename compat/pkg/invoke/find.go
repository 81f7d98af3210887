package invoke

import (
	"errors"
	"fmt"
	"strings"

	"github.com/plumb-cni/plumb/runtime"
)

// ExecutableFileExtensions are what the name of an executable may end with.
//
// Deprecated: on Linux it is nothing, and FindInPath doesn't look at it.
var ExecutableFileExtensions = []string{""}

// FindInPath returns the executable of a plugin, the first in paths, in order. An
// error matches fs.ErrNotExist if there is none.
func FindInPath(plugin string, paths []string) (string, error) {
	switch {
	case plugin == "":
		return "", errors.New("no plugin name provided")
	case strings.Contains(plugin, "/"):
		return "", fmt.Errorf("invalid plugin name: %s", plugin)
	case len(paths) == 0:
		return "", errors.New("no paths provided")
	}
	file, err := runtime.Find(plugin, paths)
	if missing := (*runtime.NotFoundError)(nil); errors.As(err, &missing) {
		return "", &notFound{missing, paths}
	}
	return file, err
}

// A notFound is a NotFoundError in the words that callers look for.
type notFound struct {
	*runtime.NotFoundError
	paths []string
}

func (e *notFound) Error() string {
	text := fmt.Sprintf("failed to find plugin %q in path %s", e.Plugin, e.paths)
	if len(e.Unfit) > 0 {
		text += fmt.Sprintf(" (not executable: %s)", e.Unfit)
	}
	return text
}

func (e *notFound) Unwrap() error { return e.NotFoundError }

// Package verblog writes one JSON line for every verb that a plugin served,
// where an operator asked for it.
package verblog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/plumb-cni/plumb/internal/smallfile"
	"github.com/plumb-cni/plumb/plugin"
)

// settings is the content of a settings file.
type settings struct {
	Log string `json:"log"` // path of the log file
}

// Destination returns the file to log to: the one that PLUMB_LOG names or else
// the settings file, empty for none. Runtimes rarely let one set an
// environment, so the file is there for them.
func Destination(fromEnvironment, settingsFile string) (string, error) {
	if fromEnvironment != "" {
		return fromEnvironment, nil
	}
	data, err := smallfile.Read(settingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read settings: %w", err)
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("settings %s: %w", settingsFile, err)
	}
	return s.Log, nil
}

// Append writes an entry as one line. The file is opened for every line, and
// written to in one piece, so that it may be rotated at any time and be shared
// by processes.
func Append(path string, e plugin.Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode log entry: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

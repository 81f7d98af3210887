package addrstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const indexSuffix = ".index"

// Indexed returns the networks that have an index in a folder of networks.
func Indexed(dataDir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dataDir, sideDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	var networks []string
	for _, e := range entries {
		if network, ok := strings.CutSuffix(e.Name(), indexSuffix); ok {
			networks = append(networks, network)
		}
	}
	return networks, nil
}

// Forget removes a network's index, which the next access makes anew from the
// records, and the folder of indexes if it was the last. The records stay.
func (o *Opener) Forget(ctx context.Context, dataDir, network string) error {
	s, err := o.Open(ctx, dataDir, network)
	if err == nil {
		defer s.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	side := filepath.Join(dataDir, sideDir)
	if err := os.Remove(filepath.Join(side, network+indexSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove index: %w", err)
	}
	os.Remove(side) //nolint:errcheck // others may be there
	return nil
}

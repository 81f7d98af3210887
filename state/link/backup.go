package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/plumb-cni/plumb/state"
)

const backupKindName = "tuning backup"

// BackupKey names the file in which the reference keeps what a link was before,
// with the hardware address that the link is known by, empty for one that
// nothing is known of.
func BackupKey(path, mac string) state.Key {
	return state.Key{NS: state.Host, Kind: backupKindName, Name: mac + " " + path}
}

// BackupKind gives back what the reference's tuning has changed.
type BackupKind struct{}

var _ state.Kind = BackupKind{}

// Kind returns "tuning backup".
func (BackupKind) Kind() string { return backupKindName }

// Remove sets the owner's link to what the file says and deletes the file. In the
// sandbox there may by now be somebody else's link of that name: one without the
// hardware address is left alone.
func (BackupKind) Remove(_ context.Context, k *state.Kernel, obj state.Object, o state.Owner) error {
	mac, path, _ := strings.Cut(obj.Key.Name, " ")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the reference's backup: %w", err)
	}
	l, err := look(k.Reader(), state.Sandbox, o.IfName)
	if err != nil {
		return err
	}
	known, err := net.ParseMAC(mac)
	if err == nil && l != nil && slices.Equal(known, l.MAC) {
		if err := restore(k, o.IfName, decodeBackup(data)); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the reference's backup: %w", err)
	}
	return nil
}

// decodeBackup decodes a file of the reference's, which a crash may have cut
// short.
func decodeBackup(data []byte) Attributes {
	var file struct {
		MAC      string `json:"mac"`
		MTU      int    `json:"mtu"`
		Promisc  *bool  `json:"promisc"`
		AllMulti *bool  `json:"allmulti"`
		TxQLen   *int   `json:"txQLen"`
	}
	if json.Unmarshal(data, &file) != nil {
		return Attributes{}
	}
	mac, _ := net.ParseMAC(file.MAC) // nil for none
	return Attributes{MAC: mac, MTU: file.MTU, Promisc: file.Promisc, AllMulti: file.AllMulti, TxQLen: file.TxQLen}
}

// Garbage finds nothing: the files do not tell their network.
func (BackupKind) Garbage(context.Context, state.Reader, string, []state.Owner) ([]state.Found, error) {
	return nil, nil
}

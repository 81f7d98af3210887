package sweep

import (
	"encoding/json"
	"slices"

	"github.com/plumb-cni/plumb/internal/addrstore"
)

// dataDirs returns the folders of networks that are known: the default, those
// that were named, and those of the attachments' configurations.
func (s *Sweep) dataDirs() []string {
	dirs := append([]string{addrstore.DefaultDir}, s.DataDirs...)
	for _, rec := range s.records {
		var ipam struct {
			DataDir string `json:"dataDir"`
		}
		if json.Unmarshal(rec.IPAM, &ipam) == nil && ipam.DataDir != "" {
			dirs = append(dirs, ipam.DataDir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

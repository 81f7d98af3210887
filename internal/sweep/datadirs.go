package sweep

import (
	"encoding/json"
	"slices"
)

// defaultDataDir is where host-local keeps addresses unless it is told
// otherwise.
const defaultDataDir = "/var/lib/cni/networks"

// dataDirs returns the folders of networks that are known: the default, those
// that were named, and those of the attachments' configurations.
func (s *Sweep) dataDirs() []string {
	dirs := append([]string{defaultDataDir}, s.DataDirs...)
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

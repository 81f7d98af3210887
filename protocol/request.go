package protocol

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// A variable of the environment, and where its value goes in a request.
type variable struct {
	name     string
	value    *string
	required bool
	validate func(string) error // nil if anything goes
}

// errUnknownVerb is the reference's in all of its words, which callers compare.
var errUnknownVerb = errors.New("unknown CNI_COMMAND")

// request reads the environment. What is missing is named in one error, all of
// it at once, and so is what is malformed (code 4, SPEC section 5, "Error").
//
// CNI_PATH is optional in the specification but for GC; it is required of
// every verb that can delegate to IPAM, as the reference does.
func request(getenv func(string) string) (cni.Request, error) {
	req := cni.Request{Verb: cni.Verb(getenv("CNI_COMMAND"))}
	var path string
	var vars []variable
	switch req.Verb {
	case cni.VerbVersion:
		return req, nil
	case cni.VerbAdd, cni.VerbCheck, cni.VerbDel:
		vars = []variable{
			{"CNI_CONTAINERID", &req.ContainerID, true, cni.ValidateContainerID},
			{"CNI_NETNS", &req.NetNS, req.Verb != cni.VerbDel, nil},
			{"CNI_IFNAME", &req.IfName, true, cni.ValidateIfName},
			{"CNI_ARGS", &req.Args, false, nil},
			{"CNI_PATH", &path, true, nil},
		}
	case cni.VerbGC, cni.VerbStatus:
		vars = []variable{{"CNI_PATH", &path, true, nil}}
	default:
		return req, cni.Errorf(cni.CodeInvalidEnvironment, "%w: %s", errUnknownVerb, req.Verb)
	}

	var missing, invalid []string
	for _, v := range vars {
		*v.value = getenv(v.name)
		switch {
		case *v.value == "" && v.required:
			missing = append(missing, v.name)
		case *v.value != "" && v.validate != nil:
			if err := v.validate(*v.value); err != nil {
				invalid = append(invalid, err.Error())
			}
		}
	}
	if len(missing) > 0 {
		return req, cni.Errorf(cni.CodeInvalidEnvironment, "%s needs environment variables that are missing: %s",
			req.Verb, strings.Join(missing, ", ")).WithDetails("whoever calls a plugin sets them; cnitool does, to call one by hand")
	}
	if len(invalid) > 0 {
		return req, cni.Errorf(cni.CodeInvalidEnvironment, "%s", strings.Join(invalid, "; "))
	}
	req.Path = filepath.SplitList(path)
	override := getenv("CNI_NETNS_OVERRIDE")
	req.NetNSOverride = override == "1" || strings.EqualFold(override, "true")
	return req, nil
}

package cni

// versionsJSON is the answer to VERSION (SPEC section 5, "VERSION Success"). It is
// encoded by hand: what encoding/json does to look at a type for the first time is
// more than all else that VERSION takes.
type versionsJSON struct {
	CNIVersion        Version   `json:"cniVersion"`
	SupportedVersions []Version `json:"supportedVersions"`
}

// EncodeVersions returns the answer to VERSION: one line of JSON, ended. asked
// is the version of the request; an empty one is answered with Latest, as the
// reference answers every request.
func EncodeVersions(asked Version, supported []Version) []byte {
	if asked == "" {
		asked = Latest
	}
	answer := []byte(`{"cniVersion":`)
	answer = append(answer, quote(string(asked))...)
	for i, v := range supported {
		separator := `,`
		if i == 0 {
			separator = `,"supportedVersions":[`
		}
		answer = append(append(answer, separator...), quote(string(v))...)
	}
	if len(supported) > 0 {
		answer = append(answer, ']')
	}
	return append(answer, "}\n"...)
}

// DecodeVersions returns the versions that a plugin says it supports, in its
// order; they may be ones that this package doesn't understand. An answer of
// 0.2.0, the first that knew VERSION, may leave them out, which means 0.1.0 and
// 0.2.0. Any other answer without versions is a CodeDecode error.
func DecodeVersions(data []byte) ([]Version, error) {
	var w versionsJSON
	if err := Decode(data, &w, "version information"); err != nil {
		return nil, err
	}
	switch {
	case w.CNIVersion == "":
		return nil, Errorf(CodeDecode, "decode version information: cniVersion is missing")
	case len(w.SupportedVersions) > 0:
		return w.SupportedVersions, nil
	case w.CNIVersion == V020:
		return []Version{V010, V020}, nil
	}
	return nil, Errorf(CodeDecode, "decode version information: supportedVersions is missing")
}

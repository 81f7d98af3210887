package cni

import (
	"errors"
	"strings"
	"testing"
)

func TestIdentifiers(t *testing.T) {
	for s, ok := range map[string]bool{
		"a": true, "0": true, "Net-1_b.c": true, "0..": true, strings.Repeat("a", 300): true,
		"": false, ".a": false, "-a": false, "_a": false, "a/b": false, "..": false, "a b": false,
		"a\n": false, "\na": false, "é": false, "aé": false, "a\x00": false, "a:b": false,
	} {
		if err := ValidateName(s); (err == nil) != ok || !ok && !errors.Is(err, CodeInvalidConfig) {
			t.Errorf("name %q: got %v", s, err)
		}
		if err := ValidateContainerID(s); (err == nil) != ok ||
			!ok && (!errors.Is(err, CodeInvalidEnvironment) || !strings.Contains(err.Error(), "CNI_CONTAINERID")) {
			t.Errorf("container ID %q: got %v", s, err)
		}
	}
}

func TestValidateIfName(t *testing.T) {
	for s, ok := range map[string]bool{
		"eth0": true, "a": true, "...": true, "-": true, "é": true, "eth0.100": true, "123456789012345": true,
		"": false, ".": false, "..": false, "a/b": false, "a:1": false, "a b": false, "a\t": false,
		"a\n": false, "a\u00a0": false, "a\x00": false, "1234567890123456": false, "éééééééé": false,
	} {
		if err := ValidateIfName(s); (err == nil) != ok ||
			!ok && (!errors.Is(err, CodeInvalidEnvironment) || !strings.Contains(err.Error(), "CNI_IFNAME")) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

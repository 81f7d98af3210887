package cni

import (
	"errors"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for s, want := range map[string]string{ // what Check says of the arguments if IP and MAC are known
		"":                                    "",
		"IP=10.0.0.2":                         "",
		"IP=;MAC=":                            "",
		"MAC=02:00:00:00:00:01;IP=fd00::2":    "",
		"IP=1;IP=2":                           "",
		"IgnoreUnknown=1;K8S_POD_NAME=a":      "",
		"K8S_POD_NAME=a;IgnoreUnknown=1":      "",
		"A=b;IgnoreUnknown=TRUE":              "",
		"A=b;=;IgnoreUnknown=true":            "",
		"IgnoreUnknown=0":                     "",
		"A=b;IP=1;C=d":                        `unknown arguments "A=b", "C=d"`,
		"A=b;IgnoreUnknown=0":                 `unknown arguments "A=b"`,
		"A=b;IgnoreUnknown=False":             `unknown arguments "A=b"`,
		"IgnoreUnknown=1;A=b;IgnoreUnknown=0": `unknown arguments "A=b"`,
		"ip=10.0.0.2":                         `unknown arguments "ip=10.0.0.2"`,
		"ignoreunknown=1":                     `unknown arguments "ignoreunknown=1"`,
		"=x":                                  `unknown arguments "=x"`,
		"IP":                                  `"IP" is not a pair`,
		"IP=1;":                               `"" is not a pair`,
		";":                                   `"" is not a pair`,
		"IP=1=2":                              `"IP=1=2" is not a pair`,
		"IgnoreUnknown=yes":                   `"IgnoreUnknown=yes" is neither`,
		"IgnoreUnknown=":                      `"IgnoreUnknown=" is neither`,
	} {
		a, err := ParseArgs(s)
		if err == nil {
			err = a.Check("IP", "MAC")
		}
		switch {
		case want == "" && err != nil, want != "" && err == nil:
			t.Errorf("%q: got %v, want %q", s, err, want)
		case want != "" && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CNI_ARGS") || !errors.Is(err, CodeInvalidEnvironment)):
			t.Errorf("%q: got %v, want %q", s, err, want)
		}
	}
}

func TestArgsGet(t *testing.T) {
	a, err := ParseArgs("IP=1;MAC=;IP=2")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"IP": "2 true", "MAC": " true", "ip": " false", "": " false"} {
		value, ok := a.Get(key)
		if got := value + map[bool]string{true: " true", false: " false"}[ok]; got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if _, ok := (Args{}).Get("IP"); ok || (Args{}).Check() != nil {
		t.Error("the zero Args are not empty")
	}
}

func TestArgsAll(t *testing.T) {
	a, err := ParseArgs("B=1;A=;B=2")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for key, value := range a.All() {
		got = append(got, key+"="+value)
		if len(got) == 2 {
			break
		}
	}
	if strings.Join(got, ";") != "B=1;A=" {
		t.Errorf("the first two are %q", got)
	}
}

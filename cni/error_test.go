package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

func TestErrorf(t *testing.T) {
	e := Errorf(CodeTryAgain, "lock %s: %w", "x", fs.ErrExist)
	if e.Error() != "lock x: file already exists" || !errors.Is(e, fs.ErrExist) || errors.Unwrap(e) != fs.ErrExist {
		t.Errorf("got %v, cause %v", e, errors.Unwrap(e))
	}
	for _, match := range []error{CodeTryAgain, &Error{Code: CodeTryAgain}} {
		if !errors.Is(fmt.Errorf("outer: %w", e), match) {
			t.Errorf("does not match %v", match)
		}
	}
	for _, other := range []error{CodeIO, &Error{Code: CodeIO}, fs.ErrNotExist} {
		if errors.Is(e, other) {
			t.Errorf("matches %v", other)
		}
	}
	two := Errorf(CodeIO, "%w and %w", fs.ErrExist, fs.ErrClosed)
	if !errors.Is(two, fs.ErrExist) || !errors.Is(two, fs.ErrClosed) {
		t.Error("several causes are not kept")
	}
	if cause := errors.Unwrap(Errorf(CodeIO, "%v", fs.ErrExist)); cause != nil {
		t.Errorf("cause %v without %%w", cause)
	}
	if d := e.WithDetails("try"); d.Error() != "lock x: file already exists; try" || e.Details != "" || !errors.Is(d, fs.ErrExist) {
		t.Errorf("got %v, original %v", d, e)
	}
}

func TestAsError(t *testing.T) {
	e := Errorf(CodeIO, "read").WithDetails("hint")
	if AsError(nil) != nil || AsError(e) != e {
		t.Error("nil or an *Error is not returned as it is")
	}
	outer := fmt.Errorf("outer: %w (again)", e)
	got := AsError(outer)
	if got.Code != CodeIO || got.Msg != "outer: read (again)" || got.Details != "hint" || !errors.Is(got, outer) {
		t.Errorf("got %#v", got)
	}
	got = AsError(errors.Join(fs.ErrClosed, e, Errorf(CodeDecode, "late")))
	if got.Code != CodeIO || got.Msg != "file already closed\nread\nlate" || !errors.Is(got, CodeDecode) {
		t.Errorf("got %#v", got)
	}
	got = AsError(fs.ErrClosed)
	if got.Code != CodeInternal || got.Msg != "file already closed" || !errors.Is(got, fs.ErrClosed) {
		t.Errorf("got %#v", got)
	}
}

func TestErrorJSON(t *testing.T) {
	e := Errorf(CodeInvalidConfig, "bad \"x\"").WithDetails("mend it")
	want := `{
    "cniVersion": "1.0.0",
    "code": 7,
    "msg": "bad \"x\"",
    "details": "mend it"
}`
	if got := e.Encode(V100); string(got) != want {
		t.Errorf("got %s", got)
	}
	if got := (&Error{}).Encode(""); string(got) != "{\n    \"code\": 0,\n    \"msg\": \"\"\n}" {
		t.Errorf("got %s", got)
	}
	back, err := DecodeError([]byte(want))
	if err != nil || back.Code != e.Code || back.Msg != e.Msg || back.Details != e.Details {
		t.Errorf("got %#v, %v", back, err)
	}
	for data, want := range map[string]*Error{
		`{"code":0}`:               {},
		`{"msg":"x"}`:              {Msg: "x"},
		`{"CODE":101,"Msg":"x"}`:   {Code: 101, Msg: "x"},
		`{}`:                       nil,
		`{"cniVersion":"1.0.0"}`:   nil,
		`null`:                     nil,
		`{"code":-1}`:              nil,
		`{"code":"7","msg":"x"}`:   nil,
		`panic: something`:         nil,
		``:                         nil,
		`{"code":7,"msg":"x"}\x00`: nil,
	} {
		got, err := DecodeError([]byte(data))
		if want == nil && (got != nil || !errors.Is(err, CodeDecode)) || want != nil && (err != nil || *got != *want) {
			t.Errorf("%s: got %#v, %v", data, got, err)
		}
	}
}

func TestCodeText(t *testing.T) {
	for code, want := range map[Code]string{
		0:            "no error",
		CodeTryAgain: "try again later (CNI error code 11)",
		102:          "plugin-specific error (CNI error code 102)",
		42:           "reserved error (CNI error code 42)",
	} {
		if got := code.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for code := Code(1); code <= CodeInternal; code++ {
		if !strings.HasSuffix(code.Error(), fmt.Sprintf("(CNI error code %d)", uint(code))) {
			t.Errorf("%d: got %q", uint(code), code.Error())
		}
	}
}

// TestAbout: whose call an error is about is behind the details, and can be taken back by who says it anyway.
func TestAbout(t *testing.T) {
	who := Subject{Plugin: "ptp", Verb: VerbAdd, Network: "net", ContainerID: "c1", IfName: "eth0"}
	const words = "plugin ptp, ADD, network net, container c1, interface eth0"
	for details, want := range map[string]string{"": words, "do it again": "do it again (" + words + ")"} {
		e := Errorf(CodeTryAgain, "busy").WithDetails(details)
		told := e.About(who)
		if told.Details != want || told.NotAbout(who).Details != details || told.Code != CodeTryAgain {
			t.Errorf("%q: %+v, and back: %+v", details, told, told.NotAbout(who))
		}
		if other := (Subject{Plugin: "ptp", Verb: VerbDel}); told.NotAbout(other).Details != want {
			t.Errorf("%q: what is about another call is taken from %+v", details, told)
		}
	}
	if got := (Subject{Plugin: "ptp", Verb: VerbStatus, Network: "net"}).String(); got != "plugin ptp, STATUS, network net" {
		t.Error(got)
	}
	if got := fmt.Sprintf("%+v", struct{ Code Code }{}); got != "{Code:no error}" {
		t.Error(got)
	}
}

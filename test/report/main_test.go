package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const ok = `{"Action":"output","Package":"p","Test":"A","Output":"--- PASS: A\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	skip := func(text string) string {
		return `{"Action":"output","Package":"p","Test":"S","Output":"    s.go:1: ` + text + `\n"}
{"Action":"skip","Package":"p","Test":"S"}
`
	}
	for _, tt := range []struct {
		name, in, want, not string
		ok                  bool
	}{
		{"pass", ok, "ok  \tp\t0.1s", "PASS", true},
		{"nothing", "", "", "", false},
		{"fail", ok + `{"Action":"output","Package":"p","Test":"B","Output":"it broke\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"B"}` + "\n", "it broke", "", false},
		{"panic", ok + `{"Action":"output","Package":"p","Test":"B","Output":"goroutine 1\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n", "goroutine 1", "", false},
		{"build", ok + `{"Action":"build-output","ImportPath":"p","Output":"no such type\n"}` + "\n" + `{"Action":"fail","Package":"p","FailedBuild":"p"}` + "\n", "no such type", "", false},
		{"expected skip", ok + skip("SKIP-FEATURE vlan: no"), "lacks: vlan (1)", "UNEXPECTED", true},
		{"unknown feature", ok + skip("SKIP-FEATURE veth: no"), "UNEXPECTED SKIP: p S", "", false},
		{"other skip", ok + skip("not today"), "not today", "", false},
		{"text of go", ok + "go: downloading x\n", "go: downloading x", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			got, err := report(strings.NewReader(tt.in), &out, map[string]bool{"vlan": true}, false)
			if err != nil || got != tt.ok || !strings.Contains(out.String(), tt.want) || tt.not != "" && strings.Contains(out.String(), tt.not) {
				t.Errorf("got %v, %v; want %v; printed\n%s", got, err, tt.ok, out.String())
			}
		})
	}
}

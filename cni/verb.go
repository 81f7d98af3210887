package cni

// A Verb is an operation of the protocol, as CNI_COMMAND names it (SPEC section 2).
type Verb string

// The verbs of specification 1.1.0. CHECK exists since 0.4.0, GC and STATUS
// since 1.1.0, VERSION since 0.2.0.
const (
	VerbAdd     Verb = "ADD"
	VerbDel     Verb = "DEL"
	VerbCheck   Verb = "CHECK"
	VerbGC      Verb = "GC"
	VerbStatus  Verb = "STATUS"
	VerbVersion Verb = "VERSION"
)

// Package protocol is one plugin process: it reads a request from the
// environment and standard input, hands it to a Handler, and writes the result
// or the error to standard output (SPEC section 2, "Execution Protocol").
//
// Everything that can be refused without knowing the plugin is refused here,
// before the handler is called: variables that are missing or malformed, a
// configuration that cannot be decoded, a version that the plugin does not
// speak, and a sandbox that is the host's own network namespace.
package protocol

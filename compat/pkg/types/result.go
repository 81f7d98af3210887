package types

import "io"

// A Result is what ADD reports, in one of its formats.
type Result interface {
	// Version is the version of the specification that the result is of.
	Version() string

	// GetAsVersion converts the result to a version of the specification, "" is
	// 0.1.0. What that one has no place for is left out.
	GetAsVersion(version string) (Result, error)

	// Print writes the result as JSON to standard output.
	Print() error

	// PrintTo writes the result as JSON.
	PrintTo(writer io.Writer) error
}

// PrintResult writes a result to standard output as JSON of that version.
func PrintResult(result Result, version string) error {
	converted, err := result.GetAsVersion(version)
	if err != nil {
		return err
	}
	return converted.Print()
}

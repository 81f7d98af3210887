// Package types holds what plugins and runtimes exchange, but for the results,
// which have a package for each of their formats: types/020, types/040 and
// types/100.
package types

// Package cni holds the Container Network Interface specification as Go types:
// requests, configurations, results, errors and versions, with their codecs.
//
// Every published version of the protocol is understood, 0.1.0 to 1.1.0. The
// types have the shape of the newest; the older formats of a result are
// codecs that convert on the way in and out.
//
// The package uses the standard library only, keeps no state and, the Load
// functions apart, touches nothing outside its arguments.
package cni

// Package stack spares a goroutine the growing of its stack.
package stack

// size is what serving a verb needs.
const size = 48 << 10

// MakeRoom lets the goroutine's stack grow at once to what a verb needs. Step by
// step it would be copied four times, and each copy reads tables of the program
// that in a process which has just started have to be mapped first.
func MakeRoom() { makeRoom(false) }

// It is the size of this frame that does it: what is in it is never touched.
//
//go:noinline
func makeRoom(use bool) {
	if use {
		var room [size]byte
		touch(&room)
	}
}

//go:noinline
func touch(room *[size]byte) { room[0]++ }

// Package tool runs xentrace as its users do, for end-to-end tests: it starts
// the program, waits for its ready file, lets the test make traffic, interrupts
// it and decodes what it wrote. The types are written from the documented JSON
// and share nothing with the program, so that a change of a key is noticed.
package tool

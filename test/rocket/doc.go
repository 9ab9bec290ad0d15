// Package rocket is package rocket of the program with what only tests need: it checks
// every byte that arrives, knows sequence numbers, and sends packets of a chosen number
// of slots.
package rocket

// Package fix mends what check found: it makes a plan of the findings, carries it
// out all or nothing, and puts everything back.
//
// A [Plan] looks at nothing but a check's facts and findings. A [Fixer] changes
// the machine. Before its first change it writes down everything that it is going
// to change as it was, in one file; [Fixer.Revert] needs nothing else, whenever the
// work was cut off, so nothing has to be written down between two changes.
package fix

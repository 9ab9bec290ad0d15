// Package live is watch on a whole screen: what is counted always in sight, below it
// the flows that have trouble and the last events. A model knows what is to be seen
// and what keys do; a screen has the terminal, and gives it back whatever happens.
package live

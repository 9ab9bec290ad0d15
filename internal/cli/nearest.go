package cli

import "strings"

// nearest returns the name that a mistyped word most likely meant, or "".
func nearest(word string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if len(word) >= 2 && strings.HasPrefix(name, word) {
			return name
		}
		if d := distance(word, name); d < least && d < len(name) && d <= (len(word)+1)/2 && len(word) > 1 {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next++
			}
			diagonal = row[j+1]
			row[j+1] = min(next, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

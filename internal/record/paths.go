package record

// Paths returns the files that a recording is read from: itself, or the segments of a
// directory in their order.
func Paths(path string) ([]string, error) {
	files, err := filesOf(path)
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, err
}

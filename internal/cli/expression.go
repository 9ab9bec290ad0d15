package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"xentrace/internal/filter"
	"xentrace/internal/filter/expression"
)

// expressionSnap is how many bytes of a packet are read for an expression: its headers.
const expressionSnap = 96

// expressionArgument accepts a pcap filter as the rest of the command line.
func expressionArgument(f *filter.Filter) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error { return compileExpression(f, args) }
}

// compileExpression sets the filter's expression; words that are all empty are none.
func compileExpression(f *filter.Filter, words []string) error {
	text := strings.Join(words, " ")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	compiled, err := expression.Compile(text)
	if err != nil {
		return usageError{fmt.Errorf("filter expression: %w", err)}
	}
	f.Expression = compiled
	return nil
}

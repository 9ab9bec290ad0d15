package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a shell completion script",
		Args: arguments(strings.Join(shells, "|"), 1, 1), ValidArgs: shells,
		Example: `  source <(xentrace completion bash)    # this shell
  xentrace completion bash > /etc/bash_completion.d/xentrace
  xentrace completion zsh > /usr/local/share/zsh/site-functions/_xentrace
  xentrace completion fish > /etc/fish/completions/xentrace.fish`,
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Stdout)
			}
			return usageError{fmt.Errorf("shell %q: not one of %s", args[0], strings.Join(shells, ", "))}
		},
	}
}

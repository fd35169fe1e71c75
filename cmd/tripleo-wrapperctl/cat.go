// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/tripleo-wrappers/tripleo-wrappers/conf"
	"github.com/tripleo-wrappers/tripleo-wrappers/generator"
)

func (c *control) catCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cat [SERVICE...]",
		Short: "Print the units that are made of definitions",
		Long: `Print the units that tripleo-wrappers-generator(8) makes of all definitions, or
of some, as they are now. What systemd has loaded, drop-ins included, shows:
systemctl cat SERVICE.socket SERVICE.path SERVICE.service SERVICE@.service`,
		Annotations:       ofFiles,
		Example:           "  tripleo-wrapperctl cat neutron-dnsmasq",
		ValidArgsFunction: c.completeServices,
		RunE: func(command *cobra.Command, args []string) error {
			files, _ := generator.Render(c.root)
			if len(args) > 0 {
				services, err := c.services(args...)
				if err != nil {
					return err
				}
				files = generator.RenderSet(conf.Set{Services: services})
			}
			if c.json {
				texts := map[string]string{}
				for _, file := range files {
					if file.Link == "" {
						texts[file.Name] = file.Text
					}
				}
				return c.printJSON(texts)
			}
			return failed(generator.Print(c.stdout, files))
		},
	}
}

package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

const prefix = "AGENTEVENTS_"

// variable returns the environment variable of a flag.
func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// vars are the variables of the environment whose names begin with prefix.
type vars map[string]string

func variables(env []string) vars {
	v := vars{}
	for _, pair := range env {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, prefix) {
			v[name] = value
		}
	}
	return v
}

// unknown returns the names that belong to no setting.
func (v vars) unknown(known []string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(v)), func(name string) bool {
		return slices.Contains(known, name)
	})
}

// resolver sets a flag that is not on the command line from its variable.
func (v vars) resolver() kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if value := v[variable(flag.Name)]; value != "" && !flag.Tag.Has("command") {
			return value, nil
		}
		return nil, nil
	})
}

package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// The version and commit of the build, set only by the linker (-X main.version=…).
var version, commit string

type buildInfo struct{ version, commit string }

// build returns the version and commit. The build info of the binary has the values that the linker did not set.
func build() buildInfo {
	b := buildInfo{version, commit}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.version = cmp.Or(b.version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.commit = cmp.Or(b.commit, s.Value)
			}
		}
	}
	return buildInfo{cmp.Or(b.version, "unknown"), cmp.Or(b.commit, "unknown")}
}

func (b buildInfo) String() string {
	return fmt.Sprintf("agentevents %s\ncommit      %s\ngo          %s\nplatform    %s/%s\n",
		b.version, b.commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

type versionCommand struct{}

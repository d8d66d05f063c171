package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// What was built, set by the linker (-X main.version=…), and by nothing else.
var version, commit string

// buildInfo says what was built.
type buildInfo struct{ version, commit string }

// build takes what the linker did not set from what Go put into the binary.
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

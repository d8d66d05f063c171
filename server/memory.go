package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// The shares that the Go runtime may have of what there is. A cgroup is the program's alone, and a tenth is left in it
// for what Go does not count: SQLite's caches and the stacks of C. A machine is shared with other programs and with the
// cache of its disks, so half of it is left.
const (
	shareOfCgroup  = 0.9
	shareOfMachine = 0.5
)

// memoryVariable is the variable by which the Go runtime takes a limit by itself.
const memoryVariable = "GOMEMLIMIT"

// limitMemory limits the memory of the Go runtime: close to the limit it collects garbage more often, and gives free
// memory back to the system at once. The limit is that of GOMEMLIMIT if it is set, else a share of the limit of the
// cgroup (v1 or v2), else a share of the machine's memory. Without any of them there is no limit.
func limitMemory(log *slog.Logger, cgroup, machine memlimit.Provider) {
	if value := os.Getenv(memoryVariable); value != "" {
		log.Info("memory limited", "by", memoryVariable, "limit", value)
		return
	}
	total, machineErr := machine()
	limit, err := cgroup()
	by, share := "cgroup", shareOfCgroup
	if err != nil || machineErr == nil && limit >= total { // a cgroup with more than there is has no limit
		by, share, limit, err = "machine", shareOfMachine, total, machineErr
	}
	if err != nil {
		log.Warn("memory not limited", "error", err)
		return
	}
	bytes := int64(float64(limit) * share)
	debug.SetMemoryLimit(bytes)
	log.Info("memory limited", "by", by, "mib", bytes>>20)
}

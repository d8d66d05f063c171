package main

import (
	"context"
	"time"

	"github.com/prometheus/procfs"
)

// clockTicks is how many units of /proc/PID/stat are a second, on every Linux that Go runs on.
const clockTicks = 100

// processor is how many seconds of processor time a process has taken, 0 where there is no /proc.
func processor(pid int) float64 {
	s, _ := stat(pid)
	return float64(s.UTime+s.STime) / clockTicks
}

// processors is the same of a process and all that it has started, those that have ended included.
func processors(pid int) float64 {
	s, ok := stat(pid)
	if !ok {
		return 0
	}
	sum := float64(int(s.UTime+s.STime)+s.CUTime+s.CSTime) / clockTicks
	all, _ := procfs.AllProcs()
	for _, p := range all {
		if child, err := p.Stat(); err == nil && child.PPID == pid {
			sum += float64(int(child.UTime+child.STime)+child.CUTime+child.CSTime) / clockTicks
		}
	}
	return sum
}

func stat(pid int) (s procfs.ProcStat, ok bool) {
	p, err := procfs.NewProc(pid)
	if err == nil {
		s, err = p.Stat()
	}
	return s, err == nil
}

// memory is what a process takes of it and took at most, in MiB.
func memory(pid int) (now, peak float64) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, 0
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0, 0
	}
	return float64(s.VmRSS) / mb, float64(s.VmHWM) / mb
}

// atRest waits until a reading of processor time grows no more than something that waits does, 5 s at most.
func atRest(ctx context.Context, read func() float64) {
	before := read()
	for range 50 {
		sleep(ctx, 100*time.Millisecond)
		now := read()
		if now-before <= 1.0/clockTicks {
			return
		}
		before = now
	}
}

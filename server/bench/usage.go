package main

import (
	"context"
	"time"

	"github.com/agentevents/agentevents/server/lab"
	"github.com/prometheus/procfs"
)

// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a target took for its deliveries.
type usage struct {
	processor time.Duration // of its process
	database  time.Duration // of the processes of its database server
	peak      float64       // bytes of memory, since its start
}

// measureUsage runs a function and returns what a target and its database server took meanwhile.
func measureUsage(ctx context.Context, c *caller, fn func() error) (u usage, err error) {
	rest(ctx, c.pid, c.database)
	processor, server := processorTime(c.pid), processorTime(c.database)
	if err := fn(); err != nil {
		return u, err
	}
	rest(ctx, c.pid, c.database)
	_, peak := memory(c.pid)
	return usage{processorTime(c.pid) - processor, processorTime(c.database) - server, peak}, nil
}

// values are those of so many deliveries. A process that does not exist has none.
func (u usage) values(n int) (all []value) {
	each := float64(max(n, 1))
	for _, v := range []value{
		{float64(u.processor) / each, "cpu-ns/delivery"},
		{float64(u.database) / each, "database-cpu-ns/delivery"},
		{u.peak, "peak-B"},
	} {
		if v.number > 0 {
			all = append(all, v)
		}
	}
	return all
}

// processorTime is that of a process and all that it has started, those that have ended included; 0 where there is no
// /proc.
func processorTime(pid int) time.Duration {
	ticks := 0
	all, _ := procfs.AllProcs()
	for _, p := range all {
		if s, err := p.Stat(); err == nil && pid > 0 && (s.PID == pid || s.PPID == pid) {
			ticks += int(s.UTime+s.STime) + s.CUTime + s.CSTime
		}
	}
	return time.Duration(ticks) * clockTick
}

// memory is how many bytes of it a process takes and took at most, 0 where there is no /proc.
func memory(pid int) (now, peak float64) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, 0
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0, 0
	}
	return float64(s.VmRSS), float64(s.VmHWM)
}

// rest waits until the processor time of processes grows no more than that of one that waits, 5 s at most.
func rest(ctx context.Context, pids ...int) {
	before := time.Duration(0)
	for range 50 {
		now := time.Duration(0)
		for _, pid := range pids {
			now += processorTime(pid)
		}
		if now-before <= clockTick {
			return
		}
		before = now
		_ = lab.Pause(ctx, 100*time.Millisecond)
	}
}

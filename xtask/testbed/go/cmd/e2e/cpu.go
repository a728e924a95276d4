package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpu is what a process has used since it started.
type cpu struct {
	// Exact is the sum over its living threads, in nanoseconds' steps; a thread
	// that ended takes its share with it.
	Exact time.Duration
	// Ticks is of the whole process, in steps of 10 ms.
	Ticks time.Duration
	// RSSKiB is the memory that is resident now.
	RSSKiB int64
}

func readCPU(pid int) (cpu, error) {
	var c cpu
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	threads, err := filepath.Glob(filepath.Join(dir, "task/*/schedstat"))
	if err != nil {
		return c, err
	}
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread ended between the listing and now
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return c, fmt.Errorf("%s: %w", t, err)
		}
		c.Exact += time.Duration(ran)
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return c, err
	}
	// The name in parentheses may hold anything, so count from its end.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 22 {
		return c, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return c, err
		}
		c.Ticks += time.Duration(n) * 10 * time.Millisecond
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		return c, err
	}
	c.RSSKiB = pages * int64(os.Getpagesize()) / 1024
	return c, nil
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A tick of /proc/PID/stat on Linux, whatever the kernel's own is.
const tick = 10 * time.Millisecond

// cpu is user and system time of a process so far.
func cpu(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, behind, _ := strings.Cut(string(stat), ") ") // the name in brackets may have spaces
	fields := strings.Fields(behind)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}

// machine is the time that all processors together have worked so far.
func machine() time.Duration {
	stat, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(stat), "\n")
	worked := 0
	for i, field := range strings.Fields(first)[1:] {
		if n, _ := strconv.Atoi(field); i != 3 && i != 4 { // idle; waiting for a disk
			worked += n
		}
	}
	return time.Duration(worked) * tick
}

// ownCPU is that of this program.
func ownCPU() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// resident is a process's resident memory in bytes.
func resident(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(status) {
		if rest, is := bytes.CutPrefix(line, []byte("VmRSS:")); is {
			kib, _ := strconv.Atoi(string(bytes.Fields(rest)[0]))
			return kib * 1024
		}
	}
	return 0
}

// times are how long things took.
type times []time.Duration

// at is the percentile p of them, in ms.
func (t times) at(p float64) string {
	if len(t) == 0 {
		return "–"
	}
	slices.Sort(t)
	place := min(int(p*float64(len(t))), len(t)-1)
	return fmt.Sprintf("%.1f", float64(t[place].Microseconds())/1000)
}

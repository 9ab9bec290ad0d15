package learn

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups finds the number of a task's cgroup, in the hierarchy of version 2, by the inodes of
// directories: a kernfs_node has the same number.
func (l *lab) cgroups(tasks []specimen, array uint64, all []opened) error {
	own, err := ownCgroup()
	if err != nil {
		return err
	}
	fd, err := unix.Open(own, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", own, err)
	}
	defer unix.Close(fd)
	var status unix.Stat_t
	if err := unix.Fstat(fd, &status); err != nil {
		return err
	}
	inode, known := l.layout["file.f_inode"]
	if !known {
		return nil
	}
	var images []specimen
	var numbers []uint64
	image := func(file uint64) {
		at := l.memory.word(file + uint64(inode.Offset))
		images = append(images, specimen{at, l.memory.at(at, 1024)})
	}
	image(l.memory.word(array + 8*uint64(fd)))
	numbers = append(numbers, status.Ino)
	for _, o := range all {
		if o.magic == unix.SYSFS_MAGIC {
			image(o.file)
			numbers = append(numbers, o.ino)
		}
	}
	var nodes []int // in a kernfs_node
	var node uint64
	for _, at := range places(images, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		var pointees []specimen
		for n := range images {
			p := number(images[n].image, at, 8)
			pointees = append(pointees, specimen{p, l.memory.at(p, 160)})
		}
		if found := places(pointees, 8, func(n int, value uint64) bool { return value == numbers[n] }); len(found) > 0 && !slices.ContainsFunc(pointees, func(p specimen) bool {
			return slices.ContainsFunc(images, func(i specimen) bool { return p.at <= i.at && i.at < p.at+160 }) // it shows an inode
		}) {
			nodes, node = append(nodes, found...), pointees[0].at
		}
	}
	if err := l.layout.settle("kernfs_node.id", 8, nodes); err != nil {
		return err
	}
	// A cgroup is what refers to its node, and is referred to by it and by a set of the task's.
	var groups, sets, members []int
	nodeImage := specimen{node, l.memory.at(node, 160)}
	for _, at := range places([]specimen{nodeImage}, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		group := number(nodeImage.image, at, 8)
		kn := places([]specimen{{group, l.memory.at(group, 1024)}}, 8, equal([]uint64{node}))
		if len(kn) == 0 {
			continue
		}
		for _, in := range shared(tasks) {
			if !l.isList(tasks[0].at + uint64(in) + 8) {
				continue // task_struct.cg_list follows: the scheduler's group has a cgroup as well
			}
			set := number(tasks[0].image, in, 8)
			if found := places([]specimen{{set, l.memory.at(set, 512)}}, 8, equal([]uint64{group})); len(found) > 0 {
				groups, sets, members = append(groups, kn...), append(sets, in), append(members, found...)
			}
		}
	}
	return errors.Join(l.layout.settle("cgroup.kn", 8, groups), l.layout.settle("task_struct.cgroups", 8, sets), l.layout.settle("css_set.dfl_cgrp", 8, members))
}

// isList reports whether a list_head is there, whose neighbours refer to it.
func (l *lab) isList(at uint64) bool {
	next, previous := l.memory.word(at), l.memory.word(at+8)
	return isPointer(next) && isPointer(previous) && l.memory.word(next+8) == at && l.memory.word(previous) == at
}

// ownCgroup returns the directory of this process's cgroup of version 2.
func ownCgroup() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.Contains(line, " - cgroup2 ") {
			for group := range strings.Lines(string(groups)) {
				if path, is := strings.CutPrefix(strings.TrimSpace(group), "0::"); is {
					return fields[4] + path, nil
				}
			}
		}
	}
	return "", errors.New("no cgroup v2 hierarchy is mounted; mount -t cgroup2 none DIRECTORY")
}

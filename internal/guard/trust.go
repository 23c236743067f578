package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// changeable returns an error that says who else than the owners given and root
// could change the file at an absolute path, or have another one be there: by
// writing to it, or to a directory on the way or one that a symbolic link leads
// through, or by being the owner of one. nil if nobody can.
func changeable(path string, owners ...int) error {
	at, todo, links := "/", strings.Split(path, "/"), 0
	if err := checkEntry("/", owners); err != nil {
		return err
	}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		if err := checkEntry(next, owners); err != nil {
			return err
		}
		fi, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if fi.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		to, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return nil
}

// checkEntry looks at one file, directory or symbolic link.
func checkEntry(path string, owners []int) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	return checkInfo(path, fi, owners)
}

// checkInfo looks at what is known of a file that is at path, or was opened there.
func checkInfo(path string, fi os.FileInfo, owners []int) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("whose %s is can't be known", path)
	}
	if owner := int(st.Uid); owner != 0 && !slices.Contains(owners, owner) {
		return fmt.Errorf("%s belongs to user %d", path, owner)
	}
	mode := fi.Mode()
	switch {
	case mode&os.ModeSymlink != 0, mode.IsDir() && mode&os.ModeSticky != 0:
		// Nobody writes to a link; in a sticky directory nobody replaces what is
		// another's, and what is found there is looked at itself.
	case mode&0o002 != 0:
		return fmt.Errorf("%s can be written by everybody (mode %#o)", path, mode.Perm())
	case mode&0o020 != 0 && !privateGroup(path, st):
		return fmt.Errorf("%s can be written by group %d (mode %#o)", path, st.Gid, mode.Perm())
	}
	return nil
}

// privateGroup tells whether the group of a file is the one of its owner alone
// which many systems make for each user, by the same number. With an access
// control list the mode does not tell who may write.
func privateGroup(path string, st *syscall.Stat_t) bool {
	if st.Uid == 0 || st.Gid != st.Uid {
		return false
	}
	_, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err != nil
}

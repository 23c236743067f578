package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// complete gives a stripped target its symbols: what the cache has, or else
// what linking the base makes.
func (b *builder) complete(ctx context.Context) error {
	missing := b.target.Complete()
	if missing == nil || finding.CodeOf(missing) != finding.UnsupportedTarget || !b.target.Stripped() {
		return missing
	}
	if b.target.GNUBuildID == "" {
		return missing
	}
	b.stage("making the symbols of the stripped target")
	overlay, err := b.baseOverlay(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.scratch, "symbols")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	info := *b.target.BuildInfo
	info.GoVersion = "" // stands elsewhere in an executable
	link := companionLink{BuildInfo: info.String(), BuildID: b.target.GoBuildID}
	if err := link.write(dir); err != nil {
		return err
	}
	if err := b.program.build(ctx, overlay, dir, b.compiling("making the symbols of the stripped target")); err != nil {
		return b.explainBase(err)
	}
	err = b.target.KeepCompanion(filepath.Join(dir, companionFile))
	if finding.CodeOf(err) == finding.UnsupportedTarget {
		return finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("the target is stripped, and building the base anew does not give what runs, but for its symbols: %v; the base was %s",
				finding.As(err).Findings[0].Message, b.base.words),
			b.base.advice+b.elsewhere()+b.settings.doubts()+"; or give the file that the target was before it was stripped with --symbols")
	}
	return err
}

// elsewhere says where the target was built, if not here: the line tables of an
// executable hold the paths of its source, so that it does not come out the
// same.
func (b *builder) elsewhere() string {
	was := filepath.Dir(b.target.FileOf("main.main"))
	if was == b.program.pkgDir || !filepath.IsAbs(was) || b.settings.test {
		return ""
	}
	return fmt.Sprintf("; the target was built in %s: its symbols can be made there only, by darn build, or from anywhere if it is built with -trimpath", was)
}

// Files in the directory of a link that makes a symbol companion.
const (
	companionLinkFile = "companion.json" // the companionLink
	companionFile     = "companion"      // the executable
)

// companionLink makes the wrapper around the linker make what the target was
// before it was stripped. Symbols and DWARF are not loaded; of what is loaded
// two things would not come out the same, because they tell of the flags: the
// build information and the build id.
type companionLink struct {
	BuildInfo string // as in the target
	BuildID   string // the same
}

func (c *companionLink) write(dir string) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, companionLinkFile), data, 0o666)
}

// readCompanionLink reads what write wrote, nil if it wrote nothing.
func readCompanionLink(dir string) (*companionLink, error) {
	data, err := os.ReadFile(filepath.Join(dir, companionLinkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := new(companionLink)
	return c, json.Unmarshal(data, c)
}

// link runs the linker of the toolchain.
func (c *companionLink) link(dir, tool string, args []string) error {
	cfg, err := c.importcfg(dir, flagValue(args, "-importcfg"))
	if err != nil {
		return err
	}
	// The go command links with a build id whose last part, which depends on
	// the result, is not known yet; the first stands in for it. The GNU build
	// id is made from that. Then the go command puts the last part in.
	before := c.BuildID
	if i, j := strings.IndexByte(before, '/'), strings.LastIndexByte(before, '/'); i >= 0 {
		before = before[:j+1] + before[:i]
	}
	out := filepath.Join(dir, companionFile)
	if err := runLink(tool, args, "-importcfg="+cfg, "-buildid="+before, "-o="+out); err != nil {
		return err
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	if len(before) == len(c.BuildID) {
		data = bytes.ReplaceAll(data, []byte(before), []byte(c.BuildID))
	}
	if err := os.WriteFile(out, data, 0o777); err != nil {
		return err
	}
	return fakeOutput(args)
}

// importcfg copies the linker's configuration, with the target's build
// information in place of this build's.
func (c *companionLink) importcfg(dir, path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	const mark = 16 // bytes before and after the build information
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		if quoted, ok := strings.CutPrefix(line, "modinfo "); ok {
			info, err := strconv.Unquote(strings.TrimSpace(quoted))
			if err != nil || len(info) < 2*mark {
				return "", fmt.Errorf("unexpected build information in %s: %q", path, quoted)
			}
			line = fmt.Sprintf("modinfo %q\n", info[:mark]+c.BuildInfo+info[len(info)-mark:])
		}
		out.WriteString(line)
	}
	to := filepath.Join(dir, "importcfg")
	return to, os.WriteFile(to, []byte(out.String()), 0o666)
}

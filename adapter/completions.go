package adapter

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

// completions answers a request to complete what is typed into the debug
// console: Darn's commands and their arguments.
func (s *patches) completions(h *header) {
	s.start(func(ctx context.Context) {
		var a dap.CompletionsArguments
		if err := json.Unmarshal(h.Arguments, &a); err != nil {
			s.p.refuse(h, err)
			return
		}
		s.p.mu.Lock()
		first := s.p.columnsStartAt
		s.p.mu.Unlock()
		// The column is in UTF-16 code units.
		typed := utf16.Encode([]rune(a.Text))
		at := min(max(a.Column-first, 0), len(typed))
		items := s.complete(ctx, string(utf16.Decode(typed[:at])))
		for i := range items {
			items[i].Length = len(utf16.Encode([]rune(items[i].Text[:items[i].Length])))
			items[i].Start = at - items[i].Length + first
			if items[i].Text == items[i].Label {
				items[i].Text = ""
			}
		}
		s.p.respond(h, dap.CompletionsResponseBody{Targets: items})
	})
}

// complete returns what can stand in place of the last word of a line; Text is
// the new word, and Length how many bytes of it are there already.
func (s *patches) complete(ctx context.Context, line string) []dap.CompletionItem {
	items := []dap.CompletionItem{}
	word := line[strings.LastIndexAny(line, " \t")+1:]
	add := func(text, detail string, kind dap.CompletionItemType) {
		if strings.HasPrefix(text, word) {
			items = append(items, dap.CompletionItem{Label: text, Text: text, Detail: detail, Type: kind, Length: len(word)})
		}
	}
	before := strings.Fields(line[:len(line)-len(word)])
	switch {
	case len(before) == 0:
		if word != "" {
			add("darn", "live patching: darn help", "keyword")
		}
	case before[0] != "darn":
	case len(before) == 1:
		for _, c := range consoleCommands {
			add(c.name, c.help, "keyword")
		}
	case before[1] == "inspect" || before[1] == "load":
		if len(before) == 2 {
			for _, path := range modulesBeginning(word) {
				kind := dap.CompletionItemType("file")
				if strings.HasSuffix(path, "/") {
					kind = "module"
				}
				add(path, "", kind)
			}
		}
	case len(before) == 2:
		for _, p := range s.inState(ctx, before[1]) {
			add(p.ID, p.Name+", "+string(p.State), "reference")
		}
	case before[1] == "activate" && before[len(before)-1] != "at" && before[len(before)-1] != "hit":
		if slices.Contains(before, "at") && !slices.Contains(before, "hit") {
			add("hit", "at the hit that a condition such as 3 or >= 3 names", "keyword")
		}
		for word, detail := range activateWords {
			if !slices.Contains(before, word) {
				add(word, detail, "keyword")
			}
		}
	}
	slices.SortStableFunc(items, func(a, b dap.CompletionItem) int { return strings.Compare(a.Label, b.Label) })
	return items
}

// inState returns the patches that a command can be about.
func (s *patches) inState(ctx context.Context, command string) []patcher.Patch {
	states := map[string][]patcher.State{
		"activate":   {patcher.Loaded},
		"deactivate": {patcher.Active, patcher.Pending},
		"unload":     {patcher.Loaded, patcher.Active},
		"compare":    {patcher.Loaded, patcher.Pending, patcher.Active},
	}[command]
	if states == nil {
		return nil
	}
	e, err := s.open(ctx)
	if err != nil {
		return nil
	}
	l, err := e.Known(ctx)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(l.Patches, func(p patcher.Patch) bool { return !slices.Contains(states, p.State) })
}

// modulesBeginning returns the folders and module files whose paths begin so.
func modulesBeginning(prefix string) []string {
	dir, _ := filepath.Split(prefix)
	entries, err := os.ReadDir(filepath.Join(".", dir))
	if filepath.IsAbs(prefix) {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		switch {
		case err != nil:
		case info.IsDir():
			paths = append(paths, dir+e.Name()+"/")
		case filepath.Ext(e.Name()) == ".so":
			paths = append(paths, dir+e.Name())
		}
	}
	return paths
}

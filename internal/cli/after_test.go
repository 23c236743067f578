package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
)

// TestBuildGoesOnFromWhatIsLoaded edits a server twice; the second edit uses
// the variable that the first has added, with the value that it has by then.
func TestBuildGoesOnFromWhatIsLoaded(t *testing.T) {
	house := buildTeahouse(t)
	s := house.start(t)
	dir := t.TempDir()
	buildWith := func(name, initial, body string) (built build.Result) {
		t.Helper()
		source := filepath.Join(dir, name+".go")
		text := "package main\n\nimport \"fmt\"\n\nconst centsPerCup = 235\n\nvar sold int" + initial + "\n\nfunc bill(cups int) string {\n" + body + "\n}\n"
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(house.source, "bill.go"): source}})
		if err != nil {
			t.Fatal(err)
		}
		for path, data := range map[string][]byte{source: []byte(text), filepath.Join(dir, "overlay.json"): overlay} {
			if err := os.WriteFile(path, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		cmd := command("build", "--json", s.flag(), "--base", house.base, "--overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, name+".so"), ".")
		cmd.Dir = house.source
		run(t, cmd).ok(t).decode(t, &built)
		return built
	}

	first := buildWith("first", "", `	sold += cups; return fmt.Sprint("sold ", sold)`)
	if len(first.Requires) != 0 {
		t.Errorf("the first module is to be loaded after %v", first.Requires)
	}
	darn(t, "load", s.flag(), first.Path).ok(t)
	darn(t, "activate", s.flag(), first.Path).ok(t)
	s.mustAnswer("sold 3\n")
	second := buildWith("second", " = 100", `	sold += cups; return fmt.Sprint("sold since then ", sold)`)
	if !slices.Equal(second.Requires, []string{"first"}) {
		t.Errorf("the second module is to be loaded after %v", second.Requires)
	}
	if !slices.ContainsFunc(second.Findings, func(f finding.Finding) bool {
		return f.Code == finding.InitialValueChanged && f.Function == "main.sold" && strings.Contains(f.Message, "another than in the patch first")
	}) {
		t.Errorf("the second build does not say that the variable keeps its value: %v", second.Findings)
	}
	darn(t, "load", s.flag(), second.Path).ok(t)
	darn(t, "activate", s.flag(), second.Path).ok(t)
	s.mustAnswer("sold since then 6\n")

	// The first module's file may have been overwritten: a copy of it was kept.
	if err := os.Rename(second.Path, first.Path); err != nil {
		t.Fatal(err)
	}
	if r := darn(t, "activate", s.flag(), first.Path); r.code != exitRefused || !strings.Contains(r.stderr, "has changed since patch 1 was loaded from it") {
		t.Errorf("activating by the name of a changed file: %+v", r)
	}
	third := buildWith("third", "", `	sold += cups; return fmt.Sprint("sold ever since ", sold)`)
	lost := slices.ContainsFunc(third.Findings, func(f finding.Finding) bool { return f.Code == finding.NotLoaded })
	if !slices.Equal(third.Requires, []string{"first"}) || lost {
		t.Errorf("the third module is to be loaded after %v; %v", third.Requires, third.Findings)
	}

	// Where there is no copy either, nobody knows what it added.
	cache, err := os.UserCacheDir()
	if err == nil {
		err = os.Remove(filepath.Join(cache, "darn", "modules", first.ID+".so"))
	}
	if err != nil {
		t.Fatal(err)
	}
	fourth := buildWith("fourth", "", `	sold += cups; return fmt.Sprint("sold anew ", sold)`)
	if len(fourth.Findings) == 0 || !strings.Contains(fourth.Findings[0].Message, first.Path+" that patch 1 was loaded from is not there any more") {
		t.Errorf("the findings are %v", fourth.Findings)
	}
}

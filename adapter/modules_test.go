package adapter

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

func TestPatchesAreModules(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	says := func(reason string, state patcher.State) {
		t.Helper()
		var e moduleEvent
		c.event("module", &e)
		if e.Reason != reason || e.Module.State != state || e.Module.Path != s.module || !strings.HasPrefix(e.Module.Id.(string), "darn-") {
			t.Errorf("the event says %+v, want %s, %s", e, reason, state)
		}
	}
	modules := func() (all []loadedModule) {
		t.Helper()
		var body struct {
			Modules      []loadedModule
			TotalModules int
		}
		c.call("modules", dap.ModulesArguments{}, &body)
		if body.TotalModules != len(body.Modules) {
			t.Errorf("%d modules of %d", len(body.Modules), body.TotalModules)
		}
		return body.Modules
	}
	before := modules()
	if !slices.ContainsFunc(before, func(m loadedModule) bool { return m.Path == s.exe && m.IsUserCode && m.Name == "shop" }) {
		t.Errorf("the program is not among %+v", before)
	}
	p := c.patch("load", map[string]any{"path": s.module})
	says("new", patcher.Loaded)
	id := map[string]any{"id": p.ID}
	c.patch("activate", id)
	says("changed", patcher.Active)
	if all := modules(); len(all) != len(before)+1 || all[len(before)].State != patcher.Active || all[len(before)].Path != s.module {
		t.Errorf("with a patch: %+v", all)
	}
	var page struct {
		Modules      []loadedModule
		TotalModules int
	}
	c.call("modules", dap.ModulesArguments{StartModule: len(before), ModuleCount: 1}, &page)
	if len(page.Modules) != 1 || page.TotalModules != len(before)+1 || page.Modules[0].State != patcher.Active {
		t.Errorf("a page: %+v", page)
	}
	c.patch("deactivate", id)
	says("changed", patcher.Loaded)
	c.patch("unload", id)
	says("removed", patcher.Unloaded)
	if all := modules(); len(all) != len(before) {
		t.Errorf("without the patch: %+v", all)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

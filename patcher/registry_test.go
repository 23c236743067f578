package patcher

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// validRegistry holds one patch that is on one entry.
const validRegistry = `{"version":4,"sequence":1,
"patches":[{"id":"1","base":4096,"size":4096,"switch":1,"module":"` + someHash + `","init":{"start":4400,"state":4500},
"go":{"base":4096,"size":4096,"moduledata":4200,"segments":[{"Start":4096,"End":8192}],"fills":[{"Addr":16,"Old":"AA==","New":"AQ=="}]},
"functions":[{"symbol":"main.f","entry":100,"new":4100,"newSize":9,"stub":12352}]}],
"redirects":[{"entry":100,"encoding":"jump","span":7,"old":"AAECAwQ=","now":"AAECAwQ=","stack":["1"]}],
"blocks":[{"addr":12288,"size":4096}],"data":[{"addr":20480,"size":4096}],
"runtime":{"modules":[{"base":4096,"size":4096,"moduledata":4200}],"list":{"addr":20480,"size":32},"retired":[{"addr":20512,"size":32}]},
"pending":{"operation":"load","patch":"2","writes":[{"Addr":16,"Old":"AA==","New":"AQ=="},{"Addr":20544,"New":"AQ=="}]}}`

const someHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestParseRegistry: the target's owner can write into the registry; what the
// engine relies on it must have looked at.
func TestParseRegistry(t *testing.T) {
	if _, err := parseRegistry([]byte(validRegistry)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`{"version"`, `{`},
		{`"version":4`, `"version":7`},
		{`"patches":[{`, `"patches":[null,{`},
		{`"patches":[`, `"patches":[{"id":"1","module":"` + someHash + `","base":1,"size":1,"go":{"base":1}},`},
		{`"functions":[`, `"functions":[null,`},
		{`"go":{"base":4096`, `"go":null,"og":{"base":4096`},
		{`"id":"1"`, `"id":""`},
		{`"entry":100,"new"`, `"entry":101,"new"`},
		{`"stub":12352`, `"stub":0`},
		{`"redirects":[`, `"redirects":[null,`},
		{`"redirects":[`, `"redirects":[{"entry":200,"encoding":"jump","span":7,"old":"AAECAwQ=","now":"AAECAwQ="},`},
		{`"span":7`, `"span":-1`},
		{`"span":7`, `"span":4000`},
		{`"span":7`, `"span":7,"offset":-9`},
		{`"old":"AAECAwQ="`, `"old":""`},
		{`"now":"AAECAwQ="`, `"now":"AAEC"`},
		{`"stack":["1"]`, `"stack":["2"]`},
		{`"modules":[`, `"modules":[null,`},
		// What is Darn's is somewhere else.
		{someHash, "../../../../etc/cron.d/x"},
		{someHash, someHash[:62]},
		{`"stub":12352`, `"stub":64`},
		{`"stub":12352`, `"stub":20480`},
		{`"stub":12352`, `"stub":12352,"bridge":64`},
		{`"span":7`, `"span":7,"pad":64`},
		{`"span":7`, `"span":7,"pad":16380`},
		{`"stub":12352`, `"stub":16380`},
		{`"new":4100`, `"new":64`},
		{`"newSize":9`, `"newSize":18446744073709551615`},
		{`"start":4400`, `"start":64`},
		{`"state":4500`, `"state":8190`},
		{`"moduledata":4200,"segments"`, `"moduledata":64,"segments"`},
		{`"End":8192`, `"End":9000`},
		{`"Start":4096`, `"Start":9000`},
		{`"size":4096,"moduledata":4200,"segments"`, `"size":9000,"moduledata":4200,"segments"`},
		{`"modules":[{"base":4096`, `"modules":[{"base":64`},
		{`"modules":[{"base":4096,"size":4096`, `"modules":[{"base":4096,"size":9000`},
		{`"list":{"addr":20480`, `"list":{"addr":64`},
		{`"list":`, `"table":{"addr":64,"size":8},"list":`},
		{`"retired":[{"addr":20512`, `"retired":[{"addr":64`},
		{`"retired":[{"addr":20512,"size":32`, `"retired":[{"addr":20512,"size":4096`},
		{`"fills":[{"Addr":16,"Old":"AA=="`, `"fills":[{"Addr":16,"Old":"AAAA"`},
		{`"writes":[{"Addr":16,"Old":"AA=="`, `"writes":[{"Addr":16,"Old":"AAAA"`},
	} {
		damaged := strings.Replace(validRegistry, change[0], change[1], 1)
		if damaged == validRegistry {
			t.Fatalf("there is no %s", change[0])
		}
		if _, err := parseRegistry([]byte(damaged)); finding.CodeOf(err) != finding.UnsupportedTarget {
			t.Errorf("%s for %s: %v", change[1], change[0], err)
		}
	}
}

func FuzzParseRegistry(f *testing.F) {
	f.Add([]byte(validRegistry))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRegistry(data)
		if err != nil {
			return
		}
		if again, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		} else if _, err := parseRegistry(again); err != nil {
			t.Fatalf("not even what it wrote itself: %v", err)
		}
	})
}

// TestRollbackStops: what was done before a step that can't be undone may still
// be needed by it.
func TestRollbackStops(t *testing.T) {
	e := &Engine{reg: &registry{}}
	var undone []int
	step := func(n int, err error) func() error {
		return func() error {
			undone = append(undone, n)
			return err
		}
	}
	t1 := e.transit(OpLoad, "1")
	t1.onUndo(step(1, nil))
	t1.onUndo(step(2, errors.New("no")))
	t1.onUndo(step(3, nil))
	cause := errors.New("cause")
	if err := t1.rollback(cause); !errors.Is(err, cause) || !strings.Contains(err.Error(), "undoing load of patch 1: no") {
		t.Errorf("rollback says %v", err)
	}
	if len(undone) != 2 || undone[0] != 3 || undone[1] != 2 {
		t.Errorf("undone are %v", undone)
	}
	if e.failed == nil {
		t.Error("the engine goes on")
	}

	e = &Engine{reg: &registry{}}
	t2 := e.transit(OpLoad, "1")
	t2.onUndo(step(1, finding.Refuse(finding.TargetExited, "it has ended", "")))
	if err := t2.rollback(cause); finding.CodeOf(err) != finding.TargetExited || e.failed != nil {
		t.Errorf("rollback says %v, the engine has failed with %v", err, e.failed)
	}
}

package build

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Text is a file that a module's edit changed, with copies of what it was and of
// what it became.
type Text struct {
	Path string `json:"path"` // as the compiler names it
	Old  string `json:"old"`  // the path of the copy; "" if the file was new
	New  string `json:"new"`
}

// textsIndex is the file that lists the texts of a module.
const textsIndex = "index.json"

func textsDir(id string) string {
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "darn", "texts", id)
}

// keepTexts keeps the source that a module was built from, by the hash of its
// file: the edit goes on, and the base may be anywhere. Failing costs the
// comparison of both only.
func keepTexts(id string, files []ChangedFile) {
	dir := textsDir(id)
	if dir == "" || os.MkdirAll(dir, 0o777) != nil {
		return
	}
	var texts []Text
	for i, f := range files {
		t := Text{Path: f.Name, New: filepath.Join(dir, fmt.Sprint(i, ".new"))}
		if os.WriteFile(t.New, f.Is, 0o666) != nil {
			return
		}
		if f.Was != nil {
			t.Old = filepath.Join(dir, fmt.Sprint(i, ".old"))
			if os.WriteFile(t.Old, f.Was, 0o666) != nil {
				return
			}
		}
		texts = append(texts, t)
	}
	data, err := json.Marshal(texts)
	if err == nil && os.WriteFile(filepath.Join(dir, textsIndex), data, 0o666) == nil {
		prune(filepath.Dir(dir), keptModules)
	}
}

// Texts returns the source files that the edit of a module changed, by the hash
// of the module's file. They are known of the latest modules that this user has
// built on this machine; of others there is an error that says so.
func Texts(id string) ([]Text, error) {
	var texts []Text
	data, err := os.ReadFile(filepath.Join(textsDir(id), textsIndex))
	if err == nil {
		err = json.Unmarshal(data, &texts)
	}
	if err != nil {
		return nil, fmt.Errorf("the source that the module %.12s was built from is not known here: it was built on another machine, by another user, or long ago", id)
	}
	return texts, nil
}

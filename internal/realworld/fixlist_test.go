package realworld

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// fix is one bug fix between two adjacent tagged versions of a project:
// testdata/fixes/NAME.diff holds its hunks.
type fix struct {
	name string
	what string // it fixes, in words
	// probe, if not nil, asks the running program what the fix changes the
	// answer to: from was to is.
	probe   func(t *testing.T, s site) string
	was, is string
	refused finding.Code // the expected code; "" if the fix must apply
	note    string       // what to know of it when it applies
	ci      bool         // one of those that every run of the tests tries
}

// release is what was fixed from one version to the next.
type release struct {
	*project
	from, to string
	fixes    []fix
}

var releases = []release{
	{nodeExporter, "v1.11.1", "v1.12.1", []fix{
		{name: "node-mount-options", what: "mount options were put together without a separator, so that a read-only file system was not seen as one; emergency_ro counts too; names that are no UTF-8",
			probe: metrics("node_filesystem_readonly{"), ci: true,
			was: `node_filesystem_readonly{device="/dev/root",device_error="",fstype="ext4",mountpoint="/"} 0`,
			is:  `node_filesystem_readonly{device="/dev/root",device_error="",fstype="ext4",mountpoint="/"} 1`},
		{name: "node-hwmon-duplicates", what: "two sensors of one device gave the same metric twice: chips get names that differ (a method's parameters change)",
			probe: metrics("node_hwmon_chip_names{"), ci: true,
			was: `node_hwmon_chip_names{chip="platform_fan",chip_name="fan"} 1; node_hwmon_chip_names{chip="platform_fan",chip_name="sensors"} 1`,
			is:  `node_hwmon_chip_names{chip="platform_fan_fan",chip_name="fan"} 1; node_hwmon_chip_names{chip="platform_fan_sensors",chip_name="sensors"} 1`},
		{name: "node-thermal-einval", what: "EINVAL from a thermal zone failed the whole collector"},
		{name: "node-diskstats-udev", what: "udev's files are not read where there is no udev"},
		{name: "node-diskstats-exclude", note: "this runs only when the program starts: active, it changes nothing until then", what: "an empty device-exclude was taken for a conflict with device-include"},
		{name: "node-perf-profilers", note: "this runs only when the program starts: active, it changes nothing until then", what: "chosen profilers were added to all of them instead of replacing them; unknown ones are named"},
		{name: "node-edac-error", what: "memory errors per channel, and a stale error that was returned (new package variables with initialisers that run)",
			probe: metrics("node_edac_channel_correctable_errors_total{"), ci: true,
			was: "", is: `node_edac_channel_correctable_errors_total{channel="0",controller="0",csrow="0",dimm_label="unknown"} 5`},
	}},
	{caddy, "v2.11.8", "v2.11.9", []fix{
		{name: "caddy-file-matcher-directory", what: "try_files took a directory for a file when the request ends in a slash",
			probe: get("directory.test", "/sub/"), was: "200 found /sub/", is: "200 found /sub/index.txt"},
		{name: "caddy-fastcgi-env-order", what: "a client's header could override a variable that the operator set for FastCGI",
			probe: get("fcgi.test", "/a.txt", "X-Role", "client"), was: "200 role client", is: "200 role operator"},
		{name: "caddy-path-placeholder-case", note: "a part of this runs when the configuration is loaded, and so works from the next time on", what: "a path matcher with a placeholder did not ignore the case of the placeholder's value",
			probe: get("case.test", "/tea", "X-Want", "TEA"), was: "200 something else", is: "200 wanted", ci: true},
		{name: "caddy-conflicting-client-auth", note: "this runs when the configuration is loaded, and so works from the next time on", what: "conflicting client authentication of TLS policies was not seen"},
	}},
	{caddy, "v2.11.7", "v2.11.8", []fix{
		{name: "caddy-cache-control-token", what: "Cache-Control with several directives did not force a reload (two packages, a new import)"},
		{name: "caddy-admin-access", what: "remote administration: only the first entry for a key was looked at"},
		{name: "caddy-port-length", what: "a port of any length was parsed: it may be attacker's input",
			probe: badPort, was: "value out of range", is: "longer than"},
		{name: "caddy-basicauth-cache-key", what: "data race: the cache key was appended to a shared slice"},
		{name: "caddy-access-log-host-case", note: "a part of this runs when the configuration is loaded, and so works from the next time on", what: "access logs: host names were compared with regard to case (a new method)"},
		{name: "caddy-request-body-too-large", what: "a request that declares a body over the limit went to the handlers",
			probe: upload, was: "200 stored", is: "413 "},
		{name: "caddy-copy-response-hop-by-hop", what: "copy_response_headers copied hop-by-hop headers",
			probe: header("Keep-Alive", "proxy.test", "/"), was: "200 timeout=5", is: "200 "},
		{name: "caddy-selection-policies", what: "weighted round robin: index out of range with fewer weights than servers, a server that is down was chosen; least connections chose wrongly"},
		{name: "caddy-rewrite-percent", what: "strip_prefix: a percent sign in the prefix that begins no escape (new function)",
			probe: get("percent.test", "/100%25/x"), was: "200 /25/x", is: "200 /x"},
		{name: "caddy-route-group", what: "matchers of a route whose group is satisfied were run all the same (a closure that lives as long as the server)",
			probe: get("group.test", "/grp/tea"), was: "200 grp/tea", is: "200 tea"},
		{name: "caddy-invalid-host", what: "a host of dots alone went through to file paths",
			probe: get("...", "/"), was: "200 ", is: "400 "},
		{name: "caddy-front-matter", what: "templates: front matter ended at the wrong fence",
			probe: get("templates.test", "/fm.html"), was: "200 \nrest\n", is: "200 \nbody\n---\nrest\n"},
		{name: "caddy-templates-content-length", what: "templates: HEAD said that the page is empty",
			probe: head("Content-Length", "templates.test", "/page.html"), was: "200 0", is: "200 "},
		{name: "caddy-log-query-fragment", what: "the query filter of the log missed what follows a raw #"},
		{name: "caddy-browse-hide", what: "directory listings showed files that are hidden by their path (two files)",
			probe: listing("/"), was: "p sub tpl a.txt b.txt empty.txt secret.txt", is: "p sub tpl a.txt b.txt empty.txt"},
		{name: "caddy-browse-offset", what: "directory listings ignored an offset past the end",
			probe: listing("/p/?offset=9"), was: "x.txt x.txt.gz", is: ""},
		{name: "caddy-file-matcher", what: "file matcher: the fallback did not match when absent; empty files as smallest; trailing slashes (closures in a function)",
			probe: get("smallest.test", "/"), was: "200 found /a.txt", is: "200 found /empty.txt"},
		{name: "caddy-precompressed-hidden", what: "a hidden precompressed file was served",
			probe: header("Content-Encoding", "precompressed.test", "/x.txt", "Accept-Encoding", "gzip"), was: "200 gzip", is: "200 "},
		{name: "caddy-not-a-directory", what: "a path below a file was a bad request instead of not found",
			probe: get("files.test", "/a.txt/b"), was: "400 ", is: "404 "},
		{name: "caddy-encode-accept-lines", what: "only the first Accept-Encoding line was read (an iterator function is new)",
			probe: encodings, was: "", is: "gzip"},
		{name: "caddy-encode-empty-body", what: "an empty body was encoded (a new field)", refused: finding.TypeLayoutChanged},
		{name: "caddy-fastcgi-content-length", what: "FastCGI: bytes past the declared length (a new field)", refused: finding.TypeLayoutChanged},
	}},
	{natsServer, "v2.15.1", "v2.15.2", []fix{
		{name: "nats-auth-callout-connection-type", what: "auth callout: allowed connection types were checked before the scoped template set them"},
		{name: "nats-leaf-mqtt-permissions", what: "leaf nodes got round permissions on MQTT subjects"},
		{name: "nats-filestore-corrupt-state", what: "file store: counts in a corrupt state file were believed"},
		{name: "nats-ocsp-response", what: "OCSP: answers for another certificate and of signers without the right were accepted; one bad responder stopped the search (new method)"},
		{name: "nats-ocsp-mqtt", note: "this runs when the configuration is loaded, and so works from the next time on", what: "OCSP: MQTT used the options of another listener"},
		{name: "nats-queue-weights", what: "weights of queue groups overflow 32 bits (types of fields change)", refused: finding.TypeLayoutChanged},
	}},
	{natsServer, "v2.15.0", "v2.15.1", []fix{
		{name: "nats-connz-account", what: "connz with a client's number showed it to every account",
			probe: connz, was: "1", is: "0"},
		{name: "nats-pinned-certs", note: "this runs when the configuration is loaded, and so works from the next time on", what: "reload: clients were checked against the old pinned certificates"},
		{name: "nats-config-number", note: "this runs when the configuration is loaded, and so works from the next time on", what: "configuration: strings like 0K1abc were read as a number"},
		{name: "nats-memstore-ttl", what: "memory store: expired messages that are gone were collected again for ever"},
		{name: "nats-account-mappings", what: "a mapping that can't be installed took the old one away; such claims are refused (new function)"},
		{name: "nats-service-import-race", what: "data race: a service import was read without its lock"},
		{name: "nats-consumer-info", what: "consumers: their assignment was read without its lock when the leader steps down"},
		{name: "nats-restore-limit", what: "restoring a snapshot buffered without a limit"},
	}},
	{alertmanager, "v0.33.0", "v0.33.1", []fix{
		{name: "alertmanager-silence-matchers", what: "the API gave null for a silence without matchers"},
		{name: "alertmanager-silence-mesh", what: "silences sent to older members of a cluster had no matchers; a nil silence"},
	}},
	{alertmanager, "v0.34.0", "v0.34.1", []fix{
		{name: "alertmanager-inhibit-cache", what: "inhibition was lost when one of several equal alerts was resolved (fields are replaced)", refused: finding.TypeLayoutChanged},
	}},
}

// ask returns status and body, the body only of a good answer.
func ask(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, "broken"
	}
	defer answer.Body.Close()
	body := readAll(t, answer.Body)
	if answer.StatusCode != http.StatusOK {
		body = ""
	}
	return answer, strings.Fields(answer.Status)[0] + " " + body
}

// request makes a request of a host that s serves, with headers.
func request(t *testing.T, s site, method, host, path string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func get(host, path string, headers ...string) func(*testing.T, site) string {
	return func(t *testing.T, s site) string {
		_, answer := ask(t, request(t, s, "GET", host, path, headers...))
		return answer
	}
}

// header tells status and a header of the answer.
func header(name, host, path string, headers ...string) func(*testing.T, site) string {
	return headerOf("GET", name, host, path, headers...)
}

func head(name, host, path string) func(*testing.T, site) string {
	return headerOf("HEAD", name, host, path)
}

func headerOf(method, name, host, path string, headers ...string) func(*testing.T, site) string {
	return func(t *testing.T, s site) string {
		answer, broken := ask(t, request(t, s, method, host, path, headers...))
		if answer == nil {
			return broken
		}
		return strings.Fields(answer.Status)[0] + " " + answer.Header.Get(name)
	}
}

// metrics tells the metrics whose line begins so.
func metrics(prefix string) func(*testing.T, site) string {
	return func(t *testing.T, s site) string {
		_, answer := ask(t, request(t, s, "GET", s.address, "/metrics"))
		var lines []string
		for line := range strings.Lines(answer) {
			if strings.HasPrefix(line, prefix) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return strings.Join(lines, "; ")
	}
}

// listing tells the names in a directory listing.
func listing(path string) func(*testing.T, site) string {
	return func(t *testing.T, s site) string {
		_, answer := ask(t, request(t, s, "GET", "files.test", path, "Accept", "application/json"))
		var items []struct{ Name string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(answer, "200 ")), &items); err != nil {
			return answer
		}
		var names []string
		for _, item := range items {
			names = append(names, strings.TrimSuffix(item.Name, "/"))
		}
		return strings.Join(names, " ")
	}
}

func upload(t *testing.T, s site) string {
	r := request(t, s, "POST", "upload.test", "/")
	body := strings.Repeat("x", 11)
	r.Body, r.ContentLength = readCloser(body), int64(len(body))
	_, answer := ask(t, r)
	return answer
}

// badPort tells what the administration finds wrong with a port.
func badPort(t *testing.T, s site) string {
	config := `{"admin":{"listen":"` + s.admin + `"},"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:` + strings.Repeat("9", 40) + `"]}}}}}`
	r := request(t, site{address: s.admin}, "POST", s.admin, "/load", "Content-Type", "application/json")
	r.Body, r.ContentLength = readCloser(config), int64(len(config))
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body := readAll(t, answer.Body)
	for _, words := range []string{"value out of range", "longer than"} {
		if strings.Contains(body, words) {
			return words
		}
	}
	return body
}

// encodings tells how an answer is encoded when two lines say what is accepted.
func encodings(t *testing.T, s site) string {
	answer, broken := ask(t, request(t, s, "GET", "encode.test", "/", "Accept-Encoding", "br", "Accept-Encoding", "gzip"))
	if answer == nil {
		return broken
	}
	return answer.Header.Get("Content-Encoding")
}

// connz tells how many connections an account that has none sees of the number
// of somebody else's.
func connz(t *testing.T, s site) string {
	cid := connectNATS(t, s.address)
	_, answer := ask(t, request(t, site{address: s.admin}, "GET", s.admin, "/connz?"+url.Values{"cid": {cid}, "acc": {"$SYS"}, "auth": {"true"}}.Encode()))
	var connections struct {
		N json.Number `json:"num_connections"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(answer, "200 ")), &connections); err != nil {
		return answer
	}
	return connections.N.String()
}

// diff is where the fix's hunks are.
func (f *fix) diff(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "fixes", f.name+".diff"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

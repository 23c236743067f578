package realworld

import (
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var caddy = &project{name: "caddy", module: "github.com/caddyserver/caddy/v2", licence: "Apache-2.0", pkg: "./cmd/caddy",
	serve: func(t *testing.T, dir string) ([]string, site) {
		s := site{address: freeAddress(t), admin: freeAddress(t), dir: dir}
		s.steady = "http://" + s.address + "/ready"
		_, port, _ := net.SplitHostPort(s.address)
		for path, content := range map[string]string{
			"www/a.txt": "a", "www/b.txt": "bb", "www/empty.txt": "", "www/secret.txt": "s",
			"www/sub/index.txt": "the index",
			"www/p/x.txt":       strings.Repeat("plain ", 100), "www/p/x.txt.gz": "stands for what gzip made",
			"www/tpl/page.html": strings.Repeat("a page ", 10) + `{{now | date "2006" | len}}`,
			"www/tpl/front.txt": "---\ntitle: one\n...\nbody\n---\nrest\n",
			"www/tpl/fm.html":   `{{(splitFrontMatter (include "/front.txt")).Body}}`,
		} {
			write(t, filepath.Join(dir, path), content)
		}
		config := filepath.Join(dir, "Caddyfile")
		write(t, config, strings.NewReplacer("ADDRESS", s.address, "PORT", port, "ADMIN", s.admin,
			"DIR", dir, "FCGI", serveFCGI(t), "LONG", strings.Repeat("long ", 200)).Replace(caddyfile))
		return []string{"run", "--config", config, "--adapter", "caddyfile"}, s
	}}

// caddyfile has a host for each thing that a fix can show at.
const caddyfile = `{
	admin ADMIN
	auto_https off
}
http://ADDRESS {
	respond /ready "ready"
	respond "hello from {path}"
}
http://upload.test:PORT {
	request_body {
		max_size 10
	}
	respond "stored"
}
http://upstream.test:PORT {
	header Keep-Alive timeout=5
	respond "from upstream"
}
http://proxy.test:PORT {
	reverse_proxy ADDRESS {
		header_up Host upstream.test
		@any status 200
		handle_response @any {
			copy_response_headers
			respond "copied"
		}
	}
}
http://percent.test:PORT {
	uri strip_prefix /100%
	respond "{http.request.uri.path}"
}
http://group.test:PORT {
	@first path_regexp one ^/grp/(.*)$
	@second path_regexp one ^/(g.*)$
	route {
		handle @first {
			header X-Handled first
		}
		handle @second {
			header X-Handled second
		}
		respond "{re.one.1}"
	}
}
http://files.test:PORT {
	root DIR/www
	file_server browse {
		hide DIR/www/secret.txt
	}
}
http://precompressed.test:PORT {
	root DIR/www/p
	file_server {
		precompressed gzip
		hide *.gz
	}
}
http://matcher.test:PORT {
	root DIR/www
	@file file {
		try_files /absent-a /absent-b
		try_policy first_exist_fallback
	}
	respond @file "found {file_match.relative}"
	respond "none"
}
http://smallest.test:PORT {
	root DIR/www
	@file file {
		try_files /empty.txt /b.txt /a.txt
		try_policy smallest_size
	}
	respond @file "found {file_match.relative}"
	respond "none"
}
http://directory.test:PORT {
	root DIR/www
	@file file {
		try_files {path} {path}/index.txt
	}
	respond @file "found {file_match.relative}"
	respond "none"
}
http://templates.test:PORT {
	root DIR/www/tpl
	templates
	file_server
}
http://encode.test:PORT {
	encode gzip
	header Content-Type text/plain
	respond "LONG"
}
http://fcgi.test:PORT {
	root DIR/www
	reverse_proxy FCGI {
		transport fastcgi {
			env HTTP_X_ROLE operator
		}
	}
}
http://case.test:PORT {
	@tea path /{http.request.header.X-Want}
	respond @tea "wanted"
	respond "something else"
}
`

// serveFCGI serves FastCGI: the answer is a header of the request, which a
// FastCGI server sees as a variable of its environment.
func serveFCGI(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("role " + r.Header.Get("X-Role")))
	}))
	return l.Addr().String()
}

var nodeExporter = &project{name: "node_exporter", module: "github.com/prometheus/node_exporter", licence: "Apache-2.0", pkg: ".",
	serve: func(t *testing.T, dir string) ([]string, site) {
		s := site{address: freeAddress(t), dir: dir}
		s.steady = "http://" + s.address + "/"
		const edac = "sys/devices/system/edac/mc/mc0/"
		for path, content := range map[string]string{
			"proc/1/mountinfo": "25 1 0:3 / / ro,relatime shared:1 - ext4 /dev/root ro,errors=remount-ro\n",
			"proc/diskstats":   "",
			"sys/devices/platform/fan/hwmon/hwmon0/name": "fan\n",
			"sys/devices/platform/fan/hwmon/hwmon1/name": "sensors\n",
			edac + "ce_count": "5", edac + "ce_noinfo_count": "0", edac + "ue_count": "0", edac + "ue_noinfo_count": "0",
			edac + "csrow0/ce_count": "5", edac + "csrow0/ue_count": "0", edac + "csrow0/ch0_ce_count": "5", edac + "csrow0/ch0_ue_count": "0",
		} {
			write(t, filepath.Join(dir, path), content)
		}
		for _, hwmon := range []string{"hwmon0", "hwmon1"} { // both of one device
			link(t, "../../../fan", filepath.Join(dir, "sys/devices/platform/fan/hwmon", hwmon, "device"))
			link(t, "../../devices/platform/fan/hwmon/"+hwmon, filepath.Join(dir, "sys/class/hwmon", hwmon))
		}
		return []string{"--web.listen-address=" + s.address, "--path.procfs=" + filepath.Join(dir, "proc"),
			"--path.sysfs=" + filepath.Join(dir, "sys")}, s
	}}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

var natsServer = &project{name: "nats-server", module: "github.com/nats-io/nats-server/v2", licence: "Apache-2.0", pkg: ".",
	serve: func(t *testing.T, dir string) ([]string, site) {
		s := site{address: freeAddress(t), admin: freeAddress(t), dir: dir}
		s.steady = "http://" + s.admin + "/" // its health depends on how fast it is
		_, port, _ := net.SplitHostPort(s.address)
		_, http, _ := net.SplitHostPort(s.admin)
		return []string{"-a", "127.0.0.1", "-p", port, "-m", http, "-js", "-sd", dir}, s
	}}

var alertmanager = &project{name: "alertmanager", module: "github.com/prometheus/alertmanager", licence: "Apache-2.0", pkg: "./cmd/alertmanager",
	files: map[string]string{"ui/app/dist/index.html": "<html></html>\n"}, // the module lacks the built web pages
	serve: func(t *testing.T, dir string) ([]string, site) {
		s := site{address: freeAddress(t), dir: dir}
		s.steady = "http://" + s.address + "/-/healthy"
		config := filepath.Join(dir, "alertmanager.yml")
		write(t, config, "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n")
		return []string{"--config.file=" + config, "--web.listen-address=" + s.address, "--cluster.listen-address=", "--storage.path=" + dir}, s
	}}

package realworld

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A server of the system, as its distribution built it.
type server struct {
	program string
	// args start it on a port, in a folder of its own.
	args func(t *testing.T, dir string, port int) []string
	// request makes one request on a connection and says what was wrong with
	// the answer.
	request func(c *client) error
	// patched tells by an answer whether the patch is active.
	patched func(c *client) (bool, error)
	source  string // of the module
	// during is called while the patch is active.
	during func(c *client) error
}

// client is a connection to a server.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	url  string
	n    int
}

// say sends a line and returns the first line of the answer.
func (c *client) say(line string) (string, error) {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return "", err
	}
	s, err := c.r.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// want is say that wants one answer.
func (c *client) want(line, answer string) error {
	got, err := c.say(line)
	if err == nil && got != answer {
		err = fmt.Errorf("%q is answered with %q, not %q", line, got, answer)
	}
	return err
}

var servers = map[string]server{
	"redis": {
		program: "redis-server",
		args: func(t *testing.T, dir string, port int) []string {
			return []string{"--port", fmt.Sprint(port), "--dir", dir, "--save", ""}
		},
		request: func(c *client) error {
			c.n++
			key := fmt.Sprintf("k%p", c)
			if err := c.want(fmt.Sprintf("SET %s %d", key, c.n), "+OK"); err != nil {
				return err
			}
			if err := c.want("INCRBY "+key+" 41", fmt.Sprintf(":%d", c.n+41)); err != nil {
				return err
			}
			if err := c.want("EXPIRE "+key+" 100", ":1"); err != nil {
				return err
			}
			return c.want("TTL "+key, ":100")
		},
		patched: func(c *client) (bool, error) {
			s, err := c.say("PING")
			return s == "+patched", err
		},
		during: func(c *client) error { // a forked child saves
			if err := c.want("BGSAVE", "+Background saving started"); err != nil {
				return err
			}
			for range 100 {
				time.Sleep(20 * time.Millisecond)
				if _, err := c.say("INFO persistence"); err != nil {
					return err
				}
				var info strings.Builder
				for !strings.Contains(info.String(), "module_fork_last_cow_size") {
					s, err := c.r.ReadString('\n')
					if err != nil {
						return err
					}
					info.WriteString(s)
				}
				for range 1 { // the empty line behind it
					if _, err := c.r.ReadString('\n'); err != nil {
						return err
					}
				}
				if strings.Contains(info.String(), "rdb_bgsave_in_progress:0") {
					if !strings.Contains(info.String(), "rdb_last_bgsave_status:ok") {
						return fmt.Errorf("saving failed:\n%s", info.String())
					}
					return nil
				}
			}
			return fmt.Errorf("saving has no end")
		},
		source: `
#include <sys/time.h>
#include <stdint.h>
#include <string.h>
#include <limits.h>
typedef struct client client;
void addReplyStatus(client *c, const char *status);
long long ustime(void) { struct timeval tv; gettimeofday(&tv, 0); return (long long)tv.tv_sec * 1000000 + tv.tv_usec; }
long long mstime(void) { return ustime() / 1000; }
void pingCommand(client *c) { addReplyStatus(c, "patched"); }
uint32_t digits10(uint64_t v) { uint32_t n = 1; while (v >= 10) { v /= 10; n++; } return n; }
int ll2string(char *s, size_t len, long long value)
{
	char text[32];
	int n = 0;
	unsigned long long v = value < 0 ? -(unsigned long long)value : value;
	do { text[n++] = '0' + v % 10; v /= 10; } while (v);
	if (value < 0) text[n++] = '-';
	if ((size_t)n >= len) { if (len) s[0] = 0; return 0; }
	for (int i = 0; i < n; i++) s[i] = text[n - 1 - i];
	s[n] = 0;
	return n;
}
int string2ll(const char *s, size_t len, long long *value)
{
	size_t i = 0;
	int negative = 0;
	unsigned long long v = 0;
	if (len == 0 || len >= 21) return 0;
	if (s[0] == '-') { negative = 1; if (++i == len) return 0; }
	if (s[i] == '0' && (len > 1)) return 0;
	for (; i < len; i++) {
		if (s[i] < '0' || s[i] > '9') return 0;
		if (v > (ULLONG_MAX - (s[i] - '0')) / 10) return 0;
		v = v * 10 + (s[i] - '0');
	}
	if (negative) { if (v > (unsigned long long)LLONG_MAX + 1) return 0; if (value) *value = -v; }
	else { if (v > LLONG_MAX) return 0; if (value) *value = v; }
	return 1;
}
`,
	},
	"nginx": {
		program: "nginx",
		args: func(t *testing.T, dir string, port int) []string {
			for name, content := range map[string]string{
				"index.html": "hello\n",
				"nginx.conf": fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log; user root;
events { worker_connections 128; }
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen 127.0.0.1:%[2]d; root %[1]s; } }`, dir, port),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			return []string{"-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log")}
		},
		request: func(c *client) error {
			resp, err := http.Get(c.url + "/index.html")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && (resp.StatusCode != 200 || string(body) != "hello\n") {
				err = fmt.Errorf("%s: %q", resp.Status, body)
			}
			return err
		},
		patched: func(c *client) (bool, error) {
			resp, err := http.Get(c.url + "/index.html")
			if err != nil {
				return false, err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return strings.Contains(resp.Header.Get("Last-Modified"), "patched"), err
		},
		source: `
#include <stddef.h>
#include <stdint.h>
#include <time.h>
typedef unsigned char u_char;
u_char *ngx_sprintf(u_char *buf, const char *fmt, ...);
static inline u_char lower(u_char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }
u_char *ngx_http_time(u_char *buf, time_t t) { return ngx_sprintf(buf, "Mon, 01 Jan 2001 patched GMT"); }
uintptr_t ngx_hash_key(u_char *data, size_t len) { uintptr_t key = 0; for (size_t i = 0; i < len; i++) key = key * 31 + data[i]; return key; }
uintptr_t ngx_hash_key_lc(u_char *data, size_t len) { uintptr_t key = 0; for (size_t i = 0; i < len; i++) key = key * 31 + lower(data[i]); return key; }
uintptr_t ngx_hash_strlow(u_char *dst, u_char *src, size_t n)
{
	uintptr_t key = 0;
	while (n--) { *dst = lower(*src++); key = key * 31 + *dst++; }
	return key;
}
void ngx_strlow(u_char *dst, u_char *src, size_t n) { while (n--) *dst++ = lower(*src++); }
intptr_t ngx_strncasecmp(u_char *a, u_char *b, size_t n)
{
	for (; n; n--) {
		uintptr_t c1 = lower(*a++), c2 = lower(*b++);
		if (c1 != c2) return c1 - c2;
		if (!c1) return 0;
	}
	return 0;
}
`,
	},
	"memcached": {
		// It exports nothing: these are functions of libraries that it calls for
		// every request.
		program: "memcached",
		args: func(t *testing.T, dir string, port int) []string {
			return []string{"-l", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "0", "-u", "root", "-t", "4"}
		},
		request: func(c *client) error {
			c.n++
			key := fmt.Sprintf("k%p", c)
			if err := c.want(fmt.Sprintf("set %s 0 0 4\r\n%04d", key, c.n%10000), "STORED"); err != nil {
				return err
			}
			if err := c.want("get "+key, "VALUE "+key+" 0 4"); err != nil {
				return err
			}
			for _, want := range []string{fmt.Sprintf("%04d\r\n", c.n%10000), "END\r\n"} {
				if got, err := c.r.ReadString('\n'); err != nil || got != want {
					return fmt.Errorf("got %q, %v, not %q", got, err, want)
				}
			}
			return nil
		},
		patched: func(c *client) (bool, error) {
			s, err := c.say("nothing")
			return s == "PATCH", err
		},
		source: `
#define _GNU_SOURCE
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *p, size_t n) { return syscall(SYS_read, fd, p, n); }
// What is sent is 7 bytes long only if it is the word ERROR.
ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (m->msg_iovlen == 1 && m->msg_iov[0].iov_len == 7 && memcmp(m->msg_iov[0].iov_base, "ERROR\r\n", 7) == 0)
		return syscall(SYS_sendto, fd, "PATCH\r\n", 7, flags, 0, 0);
	return syscall(SYS_sendmsg, fd, m, flags);
}
int epoll_wait(int fd, struct epoll_event *e, int n, int ms) { return syscall(SYS_epoll_wait, fd, e, n, ms); }
int epoll_ctl(int fd, int op, int of, struct epoll_event *e) { return syscall(SYS_epoll_ctl, fd, op, of, e); }
int accept4(int fd, struct sockaddr *a, socklen_t *n, int flags) { return syscall(SYS_accept4, fd, a, n, flags); }
int getpeername(int fd, struct sockaddr *a, socklen_t *n) { return syscall(SYS_getpeername, fd, a, n); }
`,
	},
}

// TestServersOfTheSystem patches servers as the distribution built them, without
// symbols, in at least five functions each, while clients check every answer.
func TestServersOfTheSystem(t *testing.T) {
	darn := darnCommand(t)
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(s.program)
			if err != nil {
				t.Skipf("%s is not installed: .ci/setup does it", s.program)
			}
			dir := t.TempDir()
			source, module := filepath.Join(dir, "fix.c"), filepath.Join(dir, "fix.so")
			if err := os.WriteFile(source, []byte(s.source), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("gcc", "-shared", "-fPIC", "-g", "-O2", "-w", "-fno-builtin", "-o", module, source).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			port := freePort(t)
			cmd := exec.Command(path, s.args(t, dir, port)...)
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Signal(os.Interrupt)
				_ = cmd.Wait()
				if t.Failed() {
					t.Logf("%s:\n%s", s.program, output.String())
				}
			})
			probe := connect(t, port)
			load := startClients(t, &s, port, 4)
			run := func(args ...string) string {
				t.Helper()
				args = append(args, "--children", "--pid", fmt.Sprint(cmd.Process.Pid))
				out, err := exec.Command(darn, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("darn %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			expect := func(want bool) {
				t.Helper()
				for range 20 {
					if got, err := s.patched(probe); err != nil || got != want {
						t.Fatalf("patched: %v, want %v (%v)", got, want, err)
					}
				}
				load.lap(t)
			}
			expect(false)
			run("load", module)
			if out := run("activate", "--watch=0", module); strings.Count(out, "->") < 5 {
				t.Errorf("less than five functions:\n%s", out)
			}
			expect(true)
			if s.during != nil {
				if err := s.during(probe); err != nil {
					t.Error(err)
				}
			}
			for range 3 {
				run("deactivate", module)
				expect(false)
				run("activate", "--watch=0", module)
				expect(true)
			}
			run("deactivate", module)
			expect(false)
			requests, failed := load.stop()
			t.Logf("%s: %d requests, %d failed", name, requests, failed)
			if failed > 0 {
				t.Errorf("%d of %d requests failed, the first: %v", failed, requests, load.first.Load())
			}
		})
	}
}

// freePort is the port of a freeAddress.
func freePort(t *testing.T) int {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return address.Port
}

// connect waits until the server listens.
func connect(t *testing.T, port int) *client {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return &client{conn: conn, r: bufio.NewReader(conn), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// clients make requests all the time.
type clients struct {
	requests, failed atomic.Int64
	first            atomic.Value
	quit             chan struct{}
	wait             sync.WaitGroup
}

func startClients(t *testing.T, s *server, port, n int) *clients {
	load := &clients{quit: make(chan struct{})}
	for range n {
		c := connect(t, port)
		load.wait.Go(func() {
			for {
				select {
				case <-load.quit:
					return
				default:
				}
				if err := s.request(c); err != nil {
					load.failed.Add(1)
					load.first.CompareAndSwap(nil, err.Error())
					return // the connection is in no known state
				}
				load.requests.Add(1)
			}
		})
	}
	return load
}

// lap waits for some more requests.
func (l *clients) lap(t *testing.T) {
	t.Helper()
	want := l.requests.Load() + 50
	for deadline := time.Now().Add(time.Minute); l.requests.Load() < want && l.failed.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no more requests are answered")
		}
	}
}

func (l *clients) stop() (requests, failed int64) {
	close(l.quit)
	l.wait.Wait()
	return l.requests.Load(), l.failed.Load()
}

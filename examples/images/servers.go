package main

import v1 "github.com/google/go-containerregistry/pkg/v1"

// perl is what Debian's servers need for their scripts only.
var perl = []string{"perl", "perl-base", "perl-modules-5.36", "libperl5.36", "libdbd-mariadb-perl", "libdbi-perl"}

// scripts are what the servers' own scripts call.
var scripts = []string{
	"sh", "awk", "basename", "cat", "chmod", "chown", "cut", "dirname", "echo", "egrep", "env", "expr", "grep", "head", "hostname", "id", "ls", "mkdir", "mktemp",
	"mv", "printf", "rm", "sed", "sleep", "sort", "stat", "tail", "test", "touch", "tr", "true", "uname", "wc", "whoami",
}

// user is the one that a server is run as. Some want it to have a name.
func user(name string) map[string]string {
	return map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" + name + ":x:999:999:" + name + ":/data:/bin/sh\n",
		"/etc/group":  "root:x:0:\n" + name + ":x:999:\n",
	}
}

// servers are what people run, as Debian packages them, each with the client that its authors load it with; and a CSI driver with what Kubernetes has beside one.
func servers() []image {
	app := v1.Config{Entrypoint: []string{"/app"}}
	return []image{
		{
			file: "postgres.tar", ref: "shoal.local/postgres:15",
			config: v1.Config{
				Entrypoint: []string{"postgres"}, WorkingDir: "/data", User: "postgres", StopSignal: "SIGINT",
				Env: []string{"PATH=/usr/lib/postgresql/15/bin:/bin", "PGDATA=/data/pg"},
			},
			debian: debian{
				packages: []string{"postgresql-15", "postgresql-client-15", "busybox-static", "tzdata"},
				without:  append([]string{"libllvm14", "libz3-4", "postgresql-common", "postgresql-client-common"}, perl...),
				keep: []string{
					busybox, "/usr/lib/postgresql/15/bin/*", "/usr/lib/postgresql/15/lib/plpgsql.so", "/usr/lib/postgresql/15/lib/dict_snowball.so",
					"/usr/lib/postgresql/15/lib/libpqwalreceiver.so", "/usr/share/postgresql/15", "/usr/share/zoneinfo/Etc", "/usr/share/zoneinfo/Europe",
				},
			},
			links: scripts, files: user("postgres"),
		},
		{
			file: "mariadb.tar", ref: "shoal.local/mariadb:10",
			config: v1.Config{Entrypoint: []string{"mariadbd"}, WorkingDir: "/data", User: "mysql", Env: []string{"PATH=/usr/sbin:/usr/bin:/bin"}},
			debian: debian{
				packages: []string{"mariadb-server-core", "mariadb-client", "busybox-static"},
				without:  perl,
				keep: []string{
					busybox, "/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db", "/usr/bin/resolveip", "/usr/bin/my_print_defaults", "/usr/bin/mariadb",
					"/usr/bin/mariadb-admin", "/usr/bin/mariadb-slap", "/usr/share/mysql",
				},
			},
			links: scripts, files: user("mysql"),
		},
		{
			file: "nginx.tar", ref: "shoal.local/nginx:1",
			config: v1.Config{Entrypoint: []string{"nginx", "-g", "daemon off;"}, User: "999:999", StopSignal: "SIGQUIT", Env: []string{"PATH=/usr/sbin:/usr/bin:/bin"}},
			debian: debian{
				packages: []string{"nginx", "apache2-utils"}, without: perl,
				keep: []string{"/usr/sbin/nginx", "/etc/nginx/mime.types", "/usr/bin/ab"},
			},
			files: user("nginx"),
		},
		{
			file: "memcached.tar", ref: "shoal.local/memcached:1",
			config: v1.Config{Entrypoint: []string{"memcached"}, User: "999:999", Env: []string{"PATH=/usr/bin:/bin"}},
			debian: debian{
				packages: []string{"memcached", "libmemcached-tools"}, without: perl,
				keep: []string{"/usr/bin/memcached", "/usr/bin/memcslap", "/usr/bin/memcstat"},
			},
		},
		{
			file: "prometheus.tar", ref: "shoal.local/prometheus:2",
			config: v1.Config{Entrypoint: []string{"prometheus"}, WorkingDir: "/data", User: "10001:10001", Env: []string{"PATH=/usr/bin:/bin"}},
			debian: debian{packages: []string{"prometheus"}, keep: []string{"/usr/bin/prometheus", "/usr/bin/promtool"}},
		},
		{file: "csi.tar", ref: "shoal.local/csi:1", config: app, source: "./internal/e2e/csi"},
		{file: "csi-provisioner.tar", ref: "shoal.local/csi-provisioner:6", config: app, module: ".ci/csi", source: "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"},
		{file: "csi-attacher.tar", ref: "shoal.local/csi-attacher:4", config: app, module: ".ci/csi", source: "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher"},
	}
}

// Command probe is the only program of the image that the tests run.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	switch os.Args[1] {
	case "serve": // until SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("serving")
		<-c
		fmt.Println("stopped")
	case "signals": // until one comes, which it names
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGQUIT)
		fmt.Println("waiting")
		fmt.Println("got", <-c)
	case "stubborn":
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("stubborn")
		for range c {
		}
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		fmt.Println("leaving")
		fmt.Fprintln(os.Stderr, "code", code)
		os.Exit(code)
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "count":
		n, _ := strconv.Atoi(os.Args[2])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintln(w, "line", i)
		}
		w.Flush()
	case "listen":
		l, err := net.Listen("tcp", "127.0.0.1:8080")
		check(err)
		fmt.Println("listening")
		for {
			conn, err := l.Accept()
			check(err)
			fmt.Fprintln(conn, "hello")
			conn.Close()
		}
	case "call":
		conn, err := net.Dial("tcp", "127.0.0.1:8080")
		check(err)
		_, err = io.Copy(os.Stdout, conn)
		check(err)
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		check(err)
	case "read":
		b, err := os.ReadFile(os.Args[2])
		check(err)
		os.Stdout.Write(b)
	case "write":
		check(os.WriteFile(os.Args[2], []byte(os.Args[3]), 0o644))
	case "who":
		groups, _ := os.Getgroups()
		host, _ := os.Hostname()
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "groups", groups, "host", host, "pid", os.Getpid())
		fmt.Println(strings.Join(os.Environ(), " "))
		b, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Seccomp:") {
				fmt.Print(line)
			}
		}
		fmt.Println("end")
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// Command probe is what the end-to-end tests run in pods: a server that tells who it is over TCP and UDP, a client that asks a
// URL at a steady rate and reports every failure, and a few ways of misbehaving.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: probe serve [PORT]          answers HTTP on TCP PORT (8080) and echoes UDP, each with the host's name
       probe ask URL RATE SECONDS  asks RATE times a second; one line a failure, then a summary
       probe get URL               asks once and prints the answer
       probe api PATH              asks the cluster's API as client libraries do in pods, and prints the answer
       probe webhook DIR           is an admission webhook on port 8443 with tls.crt and tls.key of DIR: it annotates, and refuses what is labelled deny
       probe say TEXT              prints TEXT every 100 ms
       probe rights                prints which capabilities it has
       probe exit CODE             ends at once
       probe eat MIB               takes memory and keeps it
       probe sleep                 waits for a signal
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	arg := func(i int, otherwise string) string {
		if len(os.Args) > i {
			return os.Args[i]
		}
		return otherwise
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(ctx, arg(2, "8080"))
	case "ask":
		rate, _ := strconv.Atoi(arg(3, "50"))
		seconds, _ := strconv.Atoi(arg(4, "10"))
		err = ask(ctx, arg(2, ""), rate, time.Duration(seconds)*time.Second)
	case "get":
		var answer string
		answer, err = get(arg(2, ""), 3*time.Second)
		fmt.Print(answer)
	case "api":
		var answer string
		answer, err = askAPI(arg(2, "/"))
		fmt.Print(answer)
	case "webhook":
		err = webhook(ctx, arg(2, "."))
	case "say":
		for tick := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; {
			fmt.Println(time.Now().UnixMilli(), arg(2, "hello"))
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	case "rights":
		err = rights()
	case "exit":
		code, _ := strconv.Atoi(arg(2, "1"))
		os.Exit(code)
	case "eat":
		mib, _ := strconv.Atoi(arg(2, "64"))
		b := []byte(strings.Repeat("x", mib<<20))
		<-ctx.Done()
		fmt.Println(len(b))
	case "sleep":
		<-ctx.Done()
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// rights prints the sets of capabilities as the kernel has them, in hexadecimal.
func rights() error {
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") {
			fmt.Print(line)
		}
	}
	return err
}

func serve(ctx context.Context, port string) error {
	host, _ := os.Hostname()
	srv := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, host, r.RemoteAddr) })}
	udp, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	go echo(udp, host)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(grace)
		_ = udp.Close()
	}()
	fmt.Println("serving on port", port)
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func echo(udp net.PacketConn, host string) {
	buf := make([]byte, 1500)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = udp.WriteTo([]byte(host+" "+string(buf[:n])), from)
	}
}

func get(url string, timeout time.Duration) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	return do(&http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}, req)
}

func do(c *http.Client, req *http.Request) (string, error) {
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	buf := make([]byte, 4096)
	n, _ := resp.Body.Read(buf)
	if resp.StatusCode >= 400 {
		return "", fmt.Errorf("%s", resp.Status)
	}
	return string(buf[:n]), nil
}

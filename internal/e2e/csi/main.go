// Command csi is the tests' CSI driver, with directories for volumes: one machine's, which registers itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"shoal/node/csi/csitest"
)

func main() {
	d := &csitest.Driver{}
	flag.StringVar(&d.Name, "name", "csi.test", "the driver's name")
	flag.StringVar(&d.NodeID, "node", "", "the machine's name")
	flag.StringVar(&d.Data, "data", "/data", "directory of the volumes")
	flag.StringVar(&d.Endpoint, "endpoint", "", "the driver's socket as the machine sees it")
	socket := flag.String("socket", "/csi/csi.sock", "the driver's socket")
	registration := flag.String("registration", "/registration/csi.test.sock", "the socket by which it is found")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.Serve(ctx, *socket) })
	g.Go(func() error { return d.Serve(ctx, *registration) })
	err := g.Wait()
	_ = os.Remove(*registration) // it is registered no more
	if err != nil {
		fmt.Fprintln(os.Stderr, "csi:", err)
		os.Exit(1)
	}
}
